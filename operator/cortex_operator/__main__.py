"""`python -m cortex_operator`."""

from cortex_operator.main import main

main()
