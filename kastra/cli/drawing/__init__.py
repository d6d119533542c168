"""Pictures of workflows and networks: what is drawn (`model`), where it stands (`layout`), and in which notation.

    workflow, network   the normal form of a spec -> Diagram        svg, mermaid, dot, text   Diagram -> a text
    overlay             how the steps of a Run went -> states in a Diagram

Everything is our own and pure: no program is called, nothing is read or written. Read next: `kastra.cli.drawing.model`.
"""
