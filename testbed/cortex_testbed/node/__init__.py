"""This machine as a real node of a test cluster: containerd, kubelet, kube-proxy, CoreDNS (needs root).

What it changes on the machine is listed in `network`, `cgroups` and `sysctls`, and `leftovers` takes it away.
"""
