{{/* Where Lake and state are: given, or the trial's. */}}

{{- define "cortex.lakeDsn" -}}
{{- $dsn := .Values.lake.dsn }}
{{- if and (not $dsn) .Values.trial.enabled }}
{{- $dsn = printf "postgresql://cortex:%s@%s-lake.%s.svc:5432/cortex" .Values.trial.lake.password (include "cortex.fullname" .) .Release.Namespace }}
{{- end }}
{{- required "resourceNamespaces: the Secrets need lake.dsn, or trial.enabled=true" $dsn }}
{{- end }}

{{- define "cortex.stateUrl" -}}
{{- $url := .Values.state.url }}
{{- if and (not $url) .Values.trial.enabled }}
{{- $url = printf "redis://:%s@%s-state.%s.svc:6379/0" .Values.trial.state.password (include "cortex.fullname" .) .Release.Namespace }}
{{- end }}
{{- $url }}
{{- end }}

{{/* The Secret with the key url that the gateway reads; empty: it runs without shared state. */}}
{{- define "cortex.gatewayStateSecret" -}}
{{- $own := ternary (printf "%s-api" (include "cortex.fullname" .)) "" (ne (include "cortex.stateUrl" .) "") }}
{{- .Values.state.existingSecret | default $own }}
{{- end }}
