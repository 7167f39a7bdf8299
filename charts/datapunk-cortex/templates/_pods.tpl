{{/* What every pod has: restricted security, no token unless it asks, a writable /tmp only. */}}

{{/* dict "root" $ "component" NAME "values" OF_THE_COMPONENT "token" BOOL */}}
{{- define "cortex.podSpec" -}}
automountServiceAccountToken: {{ .token }}
enableServiceLinks: false
securityContext:
  fsGroup: 65532
  runAsGroup: 65532
  runAsNonRoot: true
  runAsUser: 65532
  seccompProfile:
    type: RuntimeDefault
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with pick .values "nodeSelector" "tolerations" "affinity" "priorityClassName" }}
{{- range $field, $value := . }}
{{- with $value }}
{{ $field }}:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{/* dict "root" $ "component" NAME "values" OF_THE_COMPONENT: the metadata of its pods; no version in it,
so that a new chart alone restarts nothing. */}}
{{- define "cortex.podMetadata" -}}
labels:
  {{- with .values.podLabels }}
  {{- toYaml (omit . "app.kubernetes.io/name" "app.kubernetes.io/instance" "app.kubernetes.io/component" "app.kubernetes.io/part-of") | nindent 2 }}
  {{- end }}
  {{- include "cortex.selector" . | nindent 2 }}
  app.kubernetes.io/part-of: datapunk-cortex
{{- with .values.podAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* dict "root" $ "role" ROLE "values" OF_THE_COMPONENT: what every container has. */}}
{{- define "cortex.container" -}}
image: {{ include "cortex.image" . }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
resources:
  {{- toYaml .values.resources | nindent 2 }}
securityContext:
  allowPrivilegeEscalation: false
  capabilities:
    drop: [ALL]
  readOnlyRootFilesystem: true
terminationMessagePolicy: FallbackToLogsOnError
{{- end }}

{{/* HTTP probes of operator and gateway; 10 minutes to start, as the workloads have. */}}
{{- define "cortex.httpProbes" -}}
startupProbe:
  httpGet: {path: /livez, port: metrics}
  periodSeconds: 2
  timeoutSeconds: 3
  failureThreshold: 300
readinessProbe:
  httpGet: {path: /readyz, port: metrics}
  periodSeconds: 5
  timeoutSeconds: 3
  failureThreshold: 2
livenessProbe:
  httpGet: {path: /livez, port: metrics}
  periodSeconds: 10
  timeoutSeconds: 3
  failureThreshold: 3
{{- end }}

{{/* dict "root" $ "component" NAME "name" OF_ITS_DEPLOYMENT "values" OF_THE_COMPONENT: from two replicas on. */}}
{{- define "cortex.disruptionBudget" }}
{{- if gt (int .values.replicas) 1 }}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ .name }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "cortex.labels" . | nindent 4 }}
spec:
  maxUnavailable: 1
  unhealthyPodEvictionPolicy: AlwaysAllow
  selector:
    matchLabels:
      {{- include "cortex.selector" . | nindent 6 }}
{{- end }}
{{- end }}
