{{- define "demo.cluster" -}}
{{- default .Release.Name .Values.cluster.name }}
{{- end }}

{{/* demo.labels (list ROOT COMPONENT) */}}
{{- define "demo.labels" -}}
{{- $root := index . 0 -}}
{{ include "demo.selector" . }}
app.kubernetes.io/part-of: liverank
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" }}
{{- end }}

{{/* demo.selector (list ROOT COMPONENT) */}}
{{- define "demo.selector" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: liverank-demo
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{- define "demo.image" -}}
{{- with .Values.image }}
{{- if .digest }}{{ .repository }}@{{ .digest }}{{ else }}{{ .repository }}:{{ default $.Chart.AppVersion .tag }}{{ end }}
{{- end }}
{{- end }}

{{/* Names as every pod of the cluster resolves them. */}}
{{- define "demo.kafka" -}}
{{- if .Values.kafka.enabled }}{{ .Release.Name }}-kafka.{{ .Release.Namespace }}.svc:9092
{{- else }}{{ required "kafka.bootstrapServers: say where Kafka is, as kafka.enabled is false" .Values.kafka.bootstrapServers }}{{ end }}
{{- end }}

{{- define "demo.redis" -}}
{{- if .Values.redis.enabled }}redis://{{ .Release.Name }}-redis.{{ .Release.Namespace }}.svc:6379
{{- else }}{{ required "redis.url: say where Redis is, as redis.enabled is false" .Values.redis.url }}{{ end }}
{{- end }}

{{- define "demo.mongodbHost" -}}
{{ .Release.Name }}-mongodb.{{ .Release.Namespace }}.svc
{{- end }}

{{- define "demo.mongodb" -}}
{{- if .Values.mongodb.enabled }}mongodb://{{ include "demo.mongodbHost" . }}:27017/?replicaSet=rs0
{{- else }}{{ required "mongodb.uri: say where MongoDB is, as mongodb.enabled is false" .Values.mongodb.uri }}{{ end }}
{{- end }}

{{/* demo.podSecurity UID, which is also the group of the data. */}}
{{- define "demo.podSecurity" -}}
runAsNonRoot: true
runAsUser: {{ . }}
runAsGroup: {{ . }}
fsGroup: {{ . }}
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{/* demo.claim PERSISTENCE: what follows the containers of a StatefulSet's pod, or the pod's template. */}}
{{- define "demo.claim" -}}
persistentVolumeClaimRetentionPolicy: {whenDeleted: Delete, whenScaled: Retain}
volumeClaimTemplates:
  - metadata:
      name: data
    spec:
      accessModes: [ReadWriteOnce]
      {{- with .storageClass }}
      storageClassName: {{ . }}
      {{- end }}
      resources:
        requests:
          storage: {{ .size }}
{{- end }}

{{/* demo.service (list ROOT COMPONENT PORT) */}}
{{- define "demo.service" -}}
{{- $root := index . 0 }}
apiVersion: v1
kind: Service
metadata:
  name: {{ $root.Release.Name }}-{{ index . 1 }}
  namespace: {{ $root.Release.Namespace }}
  labels: {{- include "demo.labels" . | nindent 4 }}
spec:
  selector: {{- include "demo.selector" . | nindent 4 }}
  ports:
    - {name: {{ index . 1 }}, port: {{ index . 2 }}, targetPort: {{ index . 1 }}}
{{- if $root.Values.networkPolicy.enabled }}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: {{ $root.Release.Name }}-{{ index . 1 }}
  namespace: {{ $root.Release.Namespace }}
  labels: {{- include "demo.labels" . | nindent 4 }}
spec:
  podSelector:
    matchLabels: {{- include "demo.selector" . | nindent 6 }}
  policyTypes: [Ingress]
  ingress:
    - ports:
        - {protocol: TCP, port: {{ index . 2 }}}
      from:
        - podSelector:
            matchLabels:
              app.kubernetes.io/name: liverank
              app.kubernetes.io/instance: {{ include "demo.cluster" $root }}
{{- end }}
{{- end }}
