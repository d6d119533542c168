#!/bin/sh
# The tour of `make demo`: applies every example into a new store, shows what has become of it, and asks for a recipe.
#
#   make demo
#   make demo INGREDIENTS="rice, eggs, peas"
#
# Needs `kastra` on the PATH. Ends with 1 if anything is not Ready or the run fails. Leaves nothing behind.
set -eu
cd "$(dirname "$0")/.."

INGREDIENTS=${INGREDIENTS:-eggs, tomatoes, onion, garlic}
KASTRA_DATA=$(mktemp -d "${TMPDIR:-/tmp}/kastra-demo.XXXXXX")
export KASTRA_DATA
trap 'rm -rf "$KASTRA_DATA"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# "eggs, spinach" as JSON: ["eggs", "spinach"]
list=$(printf '%s' "$INGREDIENTS" | sed 's/\\/\\\\/g; s/"/\\"/g; s/[[:space:]]*,[[:space:]]*/", "/g')
input="{\"ingredients\": [\"$list\"]}"

show() {
    printf '\n$ %s\n' "$1"
}

show 'kastra apply -f manifests --wait'
kastra apply -f manifests --wait

show 'kastra get agents,tools,workflows,networks,systems -A'
kastra get agents,tools,workflows,networks,systems -A

show "kastra run workflow/recipe-suggestion --input '$input'"
kastra run workflow/recipe-suggestion --input "$input"
