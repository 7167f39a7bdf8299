{{/* NetworkPolicies of the release's own pods; the operator makes those of resources' pods (docs/network.md). */}}

{{/* dict "root" $ "component" NAME "name" OF_THE_POLICY "ingress" YAML "egress" YAML: nothing else comes in or out. */}}
{{- define "cortex.networkPolicy" }}
{{- if .root.Values.networkPolicy.enabled }}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: {{ .name }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "cortex.labels" . | nindent 4 }}
spec:
  podSelector:
    matchLabels:
      {{- include "cortex.selector" . | nindent 6 }}
  policyTypes: [Ingress, Egress]
  {{- with .ingress | trim }}
  ingress:
  {{- . | nindent 2 }}
  {{- end }}
  {{- with .egress | trim }}
  egress:
  {{- . | nindent 2 }}
  {{- end }}
{{- end }}
{{- end }}

{{/* A list of namespaces' names: a selector of these. */}}
{{- define "cortex.inNamespaces" -}}
matchExpressions:
- {key: kubernetes.io/metadata.name, operator: In, values: {{ toJson . }}}
{{- end }}

{{/* The root: the peer that is every pod of every resource. */}}
{{- define "cortex.resourcePods" -}}
{{- with .Values.watchNamespaces }}
- namespaceSelector:
    {{- include "cortex.inNamespaces" . | nindent 4 }}
{{- else }}
- namespaceSelector: {}
{{- end }}
  podSelector:
    matchLabels:
      app.kubernetes.io/managed-by: cortex-operator
      app.kubernetes.io/part-of: datapunk-cortex
{{- end }}

{{/* A list of TCP ports. */}}
{{- define "cortex.tcpPorts" -}}
{{- range . }}
- {port: {{ . }}, protocol: TCP}
{{- end }}
{{- end }}

{{/* The root: who may read metrics. */}}
{{- define "cortex.ingressOfMetrics" -}}
{{- with .Values.networkPolicy.monitoringNamespaces }}
- from:
  - namespaceSelector:
      {{- include "cortex.inNamespaces" . | nindent 6 }}
  ports:
  {{- include "cortex.tcpPorts" (list 9090) | nindent 2 }}
{{- end }}
{{- end }}

{{/* The root: names, the API server, and what the values add. */}}
{{- define "cortex.egressOfAll" -}}
{{- $policy := .Values.networkPolicy }}
{{- if and $policy.dns.ports (or $policy.dns.namespaces $policy.dns.cidrs) }}
- to:
  {{- with $policy.dns.namespaces }}
  - namespaceSelector:
      {{- include "cortex.inNamespaces" . | nindent 6 }}
  {{- end }}
  {{- range $policy.dns.cidrs }}
  - ipBlock: {cidr: {{ . | quote }}}
  {{- end }}
  ports:
  {{- range $policy.dns.ports }}
  - {port: {{ . }}, protocol: UDP}
  - {port: {{ . }}, protocol: TCP}
  {{- end }}
{{- end }}
{{- with $policy.apiServer.ports }}
- ports:
  {{- include "cortex.tcpPorts" . | nindent 2 }}
  {{- with $policy.apiServer.cidrs }}
  to:
  {{- range . }}
  - ipBlock: {cidr: {{ . | quote }}}
  {{- end }}
  {{- end }}
{{- end }}
{{- with $policy.extraEgress }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* The root: to the shared state, which the gateway knows by a URL, or by a Secret that the chart does not read: then
at the usual ports, the second with TLS. */}}
{{- define "cortex.egressToState" -}}
{{- $url := include "cortex.stateUrl" . }}
{{- if .Values.state.existingSecret }}
- ports:
  {{- include "cortex.tcpPorts" (list 6379 6380) | nindent 2 }}
{{- else if .Values.state.url }}
- ports:
  {{- include "cortex.tcpPorts" (list (regexFind "[0-9]+$" (get (urlParse $url) "host" | regexFind ":[0-9]+$") | default "6379")) | nindent 2 }}
{{- else if $url }}
- to:
  - podSelector:
      matchLabels:
        {{- include "cortex.selector" (dict "root" $ "component" "state") | nindent 8 }}
  ports:
  {{- include "cortex.tcpPorts" (list 6379) | nindent 2 }}
{{- end }}
{{- end }}

{{/* The root: what the operator is told; JSON. */}}
{{- define "cortex.isolation" -}}
{{- $policy := .Values.networkPolicy }}
{{- if $policy.enabled }}
{{- $gateway := include "cortex.selector" (dict "root" $ "component" "gateway") | fromYaml }}
{{- $operator := include "cortex.selector" (dict "root" $ "component" "operator") | fromYaml }}
{{- merge (dict "gateway" $gateway "operator" $operator) (pick $policy "monitoringNamespaces" "dns" "extraEgress") | toJson }}
{{- else }}
{{- dict "enabled" false | toJson }}
{{- end }}
{{- end }}
