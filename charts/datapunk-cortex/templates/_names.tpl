{{/* Names, labels and images. */}}

{{/* "cortex" is the usual release: its objects have the chart's name. 46 characters leave room for the longest suffix,
and for what a StatefulSet adds to it. */}}
{{- define "cortex.fullname" -}}
{{- $name := .Release.Name }}
{{- if eq $name "cortex" }}
{{- $name = .Chart.Name }}
{{- else if not (contains "cortex" $name) }}
{{- $name = printf "%s-%s" $name .Chart.Name }}
{{- end }}
{{- .Values.fullnameOverride | default $name | trunc 46 | trimSuffix "-" }}
{{- end }}

{{/* dict "root" $ "component" NAME: the labels that select a component's pods; they never change. */}}
{{- define "cortex.selector" -}}
app.kubernetes.io/name: {{ .root.Chart.Name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{/* dict "root" $ "component" NAME: the labels of an object. */}}
{{- define "cortex.labels" -}}
{{ include "cortex.selector" . }}
app.kubernetes.io/part-of: datapunk-cortex
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- end }}

{{/* dict "root" $ "role" ROLE */}}
{{- define "cortex.image" -}}
{{- $image := .root.Values.image }}
{{- printf "%s/%s%s:%s" $image.registry $image.repositoryPrefix .role ($image.tag | default .root.Chart.AppVersion) }}
{{- end }}
