"""The condition AutoscalingReady, from what the cluster says of the autoscaler. Pure."""

from __future__ import annotations

from typing import Any, Final

from cortex_kinds.common import CommonSpec
from cortex_kinds.conditions import ConditionType, Reason

from cortex_operator.cluster import Object
from cortex_operator.reconcile.finding import Finding, false, true, unknown
from cortex_operator.reconcile.keda import Keda, keda_finding
from cortex_operator.reconcile.pods import condition

_TYPE: Final = ConditionType.AUTOSCALING_READY
_NO_METRICS_API: Final = (
    "the server could not find the requested resource",
    "the server is currently unable to handle the request",
)

_OF_SERVER: Final = "the cluster's metrics API does not answer; install metrics-server"
_OF_KEDA: Final = "KEDA's metrics API does not answer; see that keda-operator-metrics-apiserver runs"
_NO_KEDA: Final = Keda()


def autoscaling_findings(spec: CommonSpec, autoscaler: Object | None, keda: Keda = _NO_KEDA) -> tuple[Finding, ...]:
    """AutoscalingReady where the spec asks for autoscaling; nothing where it does not."""
    if spec.autoscaling is None:
        return ()
    if spec.suspend:
        return (false(_TYPE, Reason.SUSPENDED, "it is suspended: there are no pods to scale"),)
    if keda.missing:
        message = f"{keda.missing}. The number of pods stays as it is"
        return (false(_TYPE, Reason.METRICS_SOURCE_MISSING, message),)
    if spec.autoscaling.asks_prometheus:
        return (keda_finding(keda) or _of_autoscaler(keda.autoscaler),)
    return (_of_autoscaler(autoscaler),)


def _of_autoscaler(autoscaler: Object | None) -> Finding:
    able, active = (condition(autoscaler or {}, type) for type in ("AbleToScale", "ScalingActive"))
    if not able and not active:
        message = "no controller has looked at the HorizontalPodAutoscaler yet (with cortex up there is none): "
        return unknown(_TYPE, Reason.PENDING, f"{message}the number of pods stays as it is")
    for said in (able, active):
        if said.get("status") == "False":
            return _fails(said)
    return _works(condition(autoscaler or {}, "ScalingLimited"))


def _fails(said: dict[str, Any]) -> Finding:
    message = str(said.get("message", ""))
    if any(words in message for words in _NO_METRICS_API):
        remedy = _OF_KEDA if "external metric" in message else _OF_SERVER
        kept = "The number of pods stays as it is"
        return false(_TYPE, Reason.METRICS_SOURCE_MISSING, f"{remedy}. {kept}: {message}")
    return false(_TYPE, said.get("reason") or Reason.PENDING, f"the HorizontalPodAutoscaler says: {message}")


def _works(limited: dict[str, Any]) -> Finding:
    if (limited.get("status"), limited.get("reason")) == ("True", "TooManyReplicas"):
        message = "more pods are wanted than spec.autoscaling.maxReplicas allows"
        return true(_TYPE, Reason.SCALING_LIMITED, message)
    return true(_TYPE, Reason.SCALING_ACTIVE, "the number of pods follows what they use")
