{{- define "liverank.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" }}
{{- end }}

{{/* At most 62 characters, as a release's name has at most 53: the Service's has at most 63. */}}
{{- define "liverank.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride }}
{{- else }}
{{- $name := include "liverank.name" . }}
{{- if contains $name .Release.Name }}
{{- printf "%s-operator" .Release.Name }}
{{- else }}
{{- printf "%s-operator" (printf "%s-%s" .Release.Name $name | trunc 53 | trimSuffix "-") }}
{{- end }}
{{- end }}
{{- end }}

{{/* Cluster-wide objects of two releases of one name in two namespaces must not meet. */}}
{{- define "liverank.clusterName" -}}
{{- printf "%s:%s" .Release.Namespace (include "liverank.fullname" .) }}
{{- end }}

{{- define "liverank.selector" -}}
app.kubernetes.io/name: liverank-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "liverank.labels" -}}
{{- $labels := dict
  "app.kubernetes.io/name" "liverank-operator"
  "app.kubernetes.io/instance" .Release.Name
  "app.kubernetes.io/component" "operator"
  "app.kubernetes.io/part-of" "liverank"
  "app.kubernetes.io/managed-by" .Release.Service
  "app.kubernetes.io/version" .Chart.AppVersion
  "helm.sh/chart" (printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_") }}
{{- merge $labels .Values.commonLabels | toYaml }}
{{- end }}

{{/* What is on every object, and what is on this one (`more`), which wins. */}}
{{- define "liverank.annotations" -}}
{{- with merge (deepCopy (default dict .more)) .root.Values.commonAnnotations }}
annotations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "liverank.image" -}}
{{- with .Values.image }}
{{- $repository := .repository }}
{{- with .registry }}{{ $repository = printf "%s/%s" (trimSuffix "/" .) $repository }}{{ end }}
{{- if .digest }}{{ $repository }}@{{ .digest }}{{ else }}{{ $repository }}:{{ default $.Chart.AppVersion .tag }}{{ end }}
{{- end }}
{{- end }}

{{- define "liverank.serviceAccount" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "liverank.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- required "serviceAccount.name: say which one, as serviceAccount.create is false" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{/* The namespaces that are watched, separated by commas; empty: all of them. */}}
{{- define "liverank.namespaces" -}}
{{- if and .Values.watchNamespace .Values.watchNamespaces }}
{{- fail "watchNamespaces: remove watchNamespace, the list takes its place" }}
{{- end }}
{{- concat (list .Values.watchNamespace) .Values.watchNamespaces | compact | join "," }}
{{- end }}

{{- define "liverank.containerSecurity" -}}
{{- $ours := dict "allowPrivilegeEscalation" false "readOnlyRootFilesystem" true "capabilities" (dict "drop" (list "ALL")) }}
{{- mergeOverwrite $ours .Values.securityContext | toYaml }}
{{- end }}

{{/* `Platform` or `Image`: OpenShift gives each namespace its user ids, and refuses others. */}}
{{- define "liverank.podUser" -}}
{{- if .Values.podUser }}{{ .Values.podUser }}
{{- else if .Capabilities.APIVersions.Has "security.openshift.io/v1" }}Platform
{{- else }}Image
{{- end }}
{{- end }}

{{- define "liverank.podSecurity" -}}
{{- $ours := dict "runAsNonRoot" true "seccompProfile" (dict "type" "RuntimeDefault") }}
{{- if eq (include "liverank.podUser" . | trim) "Image" }}
{{- $ours = merge $ours (dict "runAsUser" 65532 "runAsGroup" 65532 "fsGroup" 65532) }}
{{- end }}
{{- mergeOverwrite $ours .Values.podSecurityContext | toYaml }}
{{- end }}
{{- define "liverank.probeScheme" -}}
{{- if .Values.tls.secretName }}, scheme: HTTPS{{ end }}
{{- end }}
