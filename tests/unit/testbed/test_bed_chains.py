"""What is taken out of a machine's iptables, and what never is."""

from __future__ import annotations

from cortex_testbed.node.chains import removal

OTHERS = r"""
*nat
:PREROUTING ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
:DOCKER - [0:0]
:CNI-5d1d2fc0a4bd7c1d7d0d7c9a - [0:0]
:CNI-HOSTPORT-DNAT - [0:0]
-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
-A PREROUTING -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT
-A POSTROUTING -s 10.88.0.2/32 -m comment --comment "name: \"podman\" id: \"1\"" -j CNI-5d1d2fc0a4bd7c1d7d0d7c9a
-A DOCKER -i docker0 -j RETURN
COMMIT
*filter
:INPUT DROP [0:0]
:FORWARD DROP [0:0]
-A INPUT -s 10.0.0.0/8 -m comment --comment "about KUBE-SERVICES" -j ACCEPT
COMMIT
"""
OURS = r"""
*nat
:POSTROUTING ACCEPT [0:0]
:CNI-0123456789abcdef0123456 - [0:0]
:KUBE-SERVICES - [0:0]
:KUBE-SVC-NPX46M4PTMTKRN6Y - [0:0]
-A POSTROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A POSTROUTING -s 10.244.0.2/32 -m comment --comment "name: \"cortex-testbed\" id: \"2\"" -j CNI-0123456789abcdef0123456
-A CNI-0123456789abcdef0123456 -d 10.244.0.0/24 -m comment --comment "name: \"cortex-testbed\" id: \"2\"" -j ACCEPT
-A KUBE-SERVICES -d 10.96.0.1/32 -j KUBE-SVC-NPX46M4PTMTKRN6Y
COMMIT
"""


def test_rules_of_others_are_left_alone() -> None:
    assert removal(OTHERS) == ""


def test_the_bed_s_chains_go_after_the_rules_that_lead_to_them() -> None:
    assert removal(OTHERS + OURS).splitlines() == [
        "*nat",
        '-D POSTROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES',
        r'-D POSTROUTING -s 10.244.0.2/32 -m comment --comment "name: \"cortex-testbed\" id: \"2\""'
        " -j CNI-0123456789abcdef0123456",
        "-F CNI-0123456789abcdef0123456",
        "-F KUBE-SERVICES",
        "-F KUBE-SVC-NPX46M4PTMTKRN6Y",
        "-X CNI-0123456789abcdef0123456",
        "-X KUBE-SERVICES",
        "-X KUBE-SVC-NPX46M4PTMTKRN6Y",
        "COMMIT",
    ]
