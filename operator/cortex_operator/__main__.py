"""`python -m cortex_operator`."""

from cortex_operator.main import main

if __name__ == "__main__":
    main()
