"""The importer for the Serverless (Open) Workflow DSL 1.0: what maps exactly becomes a Workflow, the rest is reported.

    document  ->  tasks (loops, faults, calls, events)  ->  place (data and expressions)  ->  cel  <-  jq

Read next: `kastra.migrate.serverless.document`.
"""
