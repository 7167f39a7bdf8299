"""The CustomResourceDefinitions of both kinds, from their models. `python -m cortex_kinds.crd` writes them.

Shields everybody from writing a field twice: the model is the only place where one stands.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from cortex_kinds.base import GROUP, VERSION, Model
from cortex_kinds.common import ObjectMeta
from cortex_kinds.index import CortexIndex
from cortex_kinds.structural import Schema, plain, rules_of, structural_schema
from cortex_kinds.workflow import CortexWorkflow

FOLDER: Final = Path(__file__).parents[1]
_HEADER: Final = "# Made by `make generate` from crds/cortex_kinds; change the models, not this file.\n"
_API_VERSION: Final = {"type": "string", "description": "Version of the API: cortex.datapunk.io/v1alpha1."}
_KIND: Final = {"type": "string", "description": "Kind of the object."}
_METADATA: Final = {"type": "object"}


@dataclass(frozen=True)
class Kind:
    """How a kind is called, and what `kubectl get` shows of it beside Ready, Reason, Revision, GPU and Age."""

    model: type[CortexIndex] | type[CortexWorkflow]
    short: str
    columns: tuple[Schema, ...] = ()

    @property
    def name(self) -> str:
        """`CortexIndex`."""
        return self.model.__name__

    @property
    def plural(self) -> str:
        """`cortexindexes`."""
        lower = self.name.lower()
        return f"{lower}es" if lower.endswith("x") else f"{lower}s"

    @property
    def file(self) -> str:
        """The name of the file that the CRD is written to."""
        return f"{GROUP}_{self.plural}.yaml"


def _column(name: str, path: str, description: str, type: str = "string") -> Schema:
    return {"name": name, "type": type, "description": description, "jsonPath": path}


_READY: Final = '.status.conditions[?(@.type=="Ready")]'
_COLUMNS: Final = (
    _column("Ready", f"{_READY}.status", "Whether the resource answers."),
    _column("Reason", f"{_READY}.reason", "Why."),
    _column("Revision", ".status.currentRevision", "The revision that answers."),
    _column("GPU", ".spec.gpu.count", "GPUs of each pod.", "integer"),
)
_AGE: Final = _column("Age", ".metadata.creationTimestamp", "Time since the resource was made.", "date")
_DOCUMENTS: Final = _column("Documents", ".status.documents", "Documents in the index.", "integer")

KINDS: Final = (Kind(CortexIndex, "cxi", (_DOCUMENTS,)), Kind(CortexWorkflow, "cxw"))


def crd(kind: Kind) -> dict[str, Any]:
    """The CustomResourceDefinition of a kind, an apiextensions.k8s.io/v1 object."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{kind.plural}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "names": {
                "kind": kind.name,
                "listKind": f"{kind.name}List",
                "plural": kind.plural,
                "singular": kind.name.lower(),
                "shortNames": [kind.short],
                "categories": ["all", "cortex"],
            },
            "scope": "Namespaced",
            "versions": [_version(kind)],
        },
    }


def _version(kind: Kind) -> dict[str, Any]:
    return {
        "name": VERSION,
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": _schema(kind)},
        "additionalPrinterColumns": [*_COLUMNS, *kind.columns, _AGE],
        "selectableFields": [{"jsonPath": f".spec.{field}.secretRef.name"} for field in ("state", "lake")],
        "subresources": {
            "status": {},
            "scale": {
                "specReplicasPath": ".spec.replicas",
                "statusReplicasPath": ".status.replicas",
                "labelSelectorPath": ".status.selector",
            },
        },
    }


def _schema(kind: Kind) -> Schema:
    spec = structural_schema(_model(kind, "spec"), defaults=True)
    status = structural_schema(_model(kind, "status"), defaults=False) | {"default": {"observedGeneration": -1}}
    required = {"required": ["spec"]} if kind.model.model_fields["spec"].is_required() else {}
    return {
        "description": plain(kind.model.__doc__ or ""),
        "type": "object",
        "properties": {
            "apiVersion": _API_VERSION,
            "kind": _KIND,
            "metadata": _METADATA,
            "spec": spec,
            "status": status,
        },
        "x-kubernetes-validations": rules_of(ObjectMeta, "self.metadata.") + rules_of(kind.model),
        **required,
    }


def _model(kind: Kind, field: str) -> type[Model]:
    annotation = kind.model.model_fields[field].annotation
    if not (isinstance(annotation, type) and issubclass(annotation, Model)):
        raise TypeError(f"{kind.name}.{field} is not a model")
    return annotation


def crd_yaml(kind: Kind) -> str:
    """The file of a kind's CRD."""
    text = yaml.dump(crd(kind), Dumper=_Dumper, sort_keys=False, width=120, allow_unicode=True)
    return f"{_HEADER}{text}"


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


def write(folder: Path = FOLDER) -> list[Path]:
    """Writes both files to `folder`; says which."""
    files = [folder / kind.file for kind in KINDS]
    for kind, file in zip(KINDS, files, strict=True):
        file.write_text(crd_yaml(kind), encoding="utf-8")
    return files


if __name__ == "__main__":
    write()
