{{/* What operator and gateway may do. */}}

{{- define "cortex.operatorRules" -}}
- apiGroups: [cortex.datapunk.io]
  resources: [cortexindexes, cortexworkflows]
  verbs: [get, list, watch]
# Their finalizer, while spec.deletionPolicy is Delete.
- apiGroups: [cortex.datapunk.io]
  resources: [cortexindexes, cortexworkflows]
  verbs: [patch]
- apiGroups: [cortex.datapunk.io]
  resources: [cortexindexes/status, cortexworkflows/status]
  verbs: [patch]
# An owner's finalizers: where the API server asks for it before an ownerReference may block a deletion.
- apiGroups: [cortex.datapunk.io]
  resources: [cortexindexes/finalizers, cortexworkflows/finalizers]
  verbs: [update]
- apiGroups: [apps]
  resources: [deployments]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [batch]
  resources: [jobs]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [serviceaccounts]
  verbs: [get, list, watch, create, patch, delete]
# They go with their resource alone: the operator deletes none.
- apiGroups: [""]
  resources: [services, configmaps]
  verbs: [get, list, watch, create, patch]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [autoscaling]
  resources: [horizontalpodautoscalers]
  verbs: [get, list, watch, create, patch, delete]
# Kinds that the cluster may lack: the operator makes them where they are served.
- apiGroups: [monitoring.coreos.com]
  resources: [podmonitors]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [keda.sh]
  resources: [scaledobjects]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [resource.k8s.io]
  resources: [resourceclaimtemplates]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch]
- apiGroups: [discovery.k8s.io]
  resources: [endpointslices]
  verbs: [list, watch]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
- apiGroups: [""]
  resources: [secrets]
  verbs: [get{{ if .Values.reload.enabled }}, list, watch{{ end }}]
# Whether those of spec.storage are there.
- apiGroups: [""]
  resources: [persistentvolumeclaims]
  verbs: [get]
# Their labels, for spec.access.allowedNamespaces of an index. In a Role: the namespace that it is in.
- apiGroups: [""]
  resources: [namespaces]
  verbs: [get]
{{- if not .Values.watchNamespaces }}
- apiGroups: [""]
  resources: [nodes]
  verbs: [list]
{{- end }}
{{- end }}

{{- define "cortex.gatewayRules" -}}
- apiGroups: [cortex.datapunk.io]
  resources: [cortexindexes, cortexworkflows]
  verbs: [get, list, watch]
- apiGroups: [discovery.k8s.io]
  resources: [endpointslices]
  verbs: [get, list, watch]
{{- end }}

{{/* dict "root" $ "component" NAME "name" OF_THE_SERVICEACCOUNT "rules" YAML: cluster-wide, or one Role and RoleBinding
for each watched namespace. */}}
{{- define "cortex.rights" -}}
{{- $root := .root }}
{{- $namespaces := $root.Values.watchNamespaces | default (list "") }}
{{- $cluster := ternary "" "Cluster" (gt (len $root.Values.watchNamespaces) 0) }}
{{- range $namespace := $namespaces }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: {{ $cluster }}Role
metadata:
  name: {{ template "cortex.roleName" $ }}
  {{- with $namespace }}
  namespace: {{ . }}
  {{- end }}
  labels:
    {{- include "cortex.labels" $ | nindent 4 }}
rules:
  {{- $.rules | nindent 2 }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: {{ $cluster }}RoleBinding
metadata:
  name: {{ template "cortex.roleName" $ }}
  {{- with $namespace }}
  namespace: {{ . }}
  {{- end }}
  labels:
    {{- include "cortex.labels" $ | nindent 4 }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: {{ $cluster }}Role
  name: {{ template "cortex.roleName" $ }}
subjects:
- kind: ServiceAccount
  name: {{ $.name }}
  namespace: {{ $root.Release.Namespace }}
{{- end }}
{{- end }}

{{/* Other releases of the same name in other namespaces must not take it: the release's namespace is part of it. */}}
{{- define "cortex.roleName" -}}
{{ printf "%s:%s" .root.Release.Namespace .name }}
{{- end }}
