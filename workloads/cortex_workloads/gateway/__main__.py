"""`python -m cortex_workloads.gateway`."""

from cortex_workloads.gateway.main import main

if __name__ == "__main__":
    main()
