{{/* One server of the trial: Service, password, and a StatefulSet of one pod.
dict "root" $ "component" NAME "values" OF_THE_COMPONENT "port" NUMBER "variable" OF_THE_PASSWORD */}}
{{- define "cortex.trialServer" -}}
{{- $name := printf "%s-%s" (include "cortex.fullname" .root) .component }}
{{- $part := merge (dict "role" .component "token" false) . }}
apiVersion: v1
kind: Secret
metadata:
  name: {{ $name }}-password
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "cortex.labels" $part | nindent 4 }}
data:
  password: {{ .values.password | b64enc }}
---
apiVersion: v1
kind: Service
metadata:
  name: {{ $name }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "cortex.labels" $part | nindent 4 }}
spec:
  type: ClusterIP
  selector:
    {{- include "cortex.selector" $part | nindent 4 }}
  ports:
  - {name: {{ .component }}, port: {{ .port }}, targetPort: {{ .component }}, protocol: TCP}
---
apiVersion: apps/v1
kind: StatefulSet
metadata:
  name: {{ $name }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "cortex.labels" $part | nindent 4 }}
spec:
  replicas: 1
  serviceName: {{ $name }}
  # OrderedReady would keep a pod whose image cannot be pulled, though an upgrade names another.
  podManagementPolicy: Parallel
  selector:
    matchLabels:
      {{- include "cortex.selector" $part | nindent 6 }}
  template:
    metadata:
      {{- include "cortex.podMetadata" $part | nindent 6 }}
    spec:
      {{- include "cortex.podSpec" $part | nindent 6 }}
      terminationGracePeriodSeconds: 60
      containers:
      - name: {{ .component }}
        {{- include "cortex.container" $part | nindent 8 }}
        env:
        - name: {{ .variable }}
          valueFrom:
            secretKeyRef: {name: {{ $name }}-password, key: password}
        ports:
        - {name: {{ .component }}, containerPort: {{ .port }}, protocol: TCP}
        startupProbe:
          tcpSocket: {port: {{ .component }}}
          periodSeconds: 2
          failureThreshold: 150
        readinessProbe:
          tcpSocket: {port: {{ .component }}}
          periodSeconds: 5
        livenessProbe:
          tcpSocket: {port: {{ .component }}}
          periodSeconds: 10
          timeoutSeconds: 5
          failureThreshold: 6
        volumeMounts:
        - {name: data, mountPath: /var/lib/cortex/{{ .component }}}
        - {name: tmp, mountPath: /tmp}
      volumes:
      - name: tmp
        emptyDir: {sizeLimit: 64Mi}
      {{- with .values.persistence }}
      {{- if not .enabled }}
      - name: data
        emptyDir: {sizeLimit: {{ .size }}}
      {{- end }}
  {{- if .enabled }}
  # Claims stay after uninstall; the next install of the same release finds its data.
  volumeClaimTemplates:
  - apiVersion: v1
    kind: PersistentVolumeClaim
    metadata:
      name: data
    spec:
      accessModes: [ReadWriteOnce]
      {{- with .storageClassName }}
      storageClassName: {{ . }}
      {{- end }}
      resources:
        requests:
          storage: {{ .size }}
  {{- end }}
  {{- end }}
{{- end }}
