{{- define "acceleratedjob.fullname" -}}
{{- if .Values.fullnameOverride }}{{ .Values.fullnameOverride }}
{{- else if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 63 | trimSuffix "-" }}
{{- else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 63 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- /* The full name with a suffix, at most 63 characters; takes {root, word}. */}}
{{- define "acceleratedjob.named" -}}
{{- $room := int (sub 62 (len .word)) }}
{{- printf "%s-%s" (include "acceleratedjob.fullname" .root | trunc $room | trimSuffix "-") .word }}
{{- end }}

{{- define "acceleratedjob.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{- /* merge keeps the first value of a key, so commonLabels cannot replace these labels. */}}
{{- define "acceleratedjob.labels" -}}
{{- $own := include "acceleratedjob.selector" . | fromYaml }}
{{- $_ := set $own "app.kubernetes.io/version" (.Chart.AppVersion | toString) }}
{{- $_ := set $own "app.kubernetes.io/managed-by" .Release.Service }}
{{- $_ := set $own "helm.sh/chart" (printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_") }}
{{- toYaml (merge $own .Values.commonLabels) }}
{{- end }}

{{- define "acceleratedjob.serviceAccount" -}}
{{- if .Values.serviceAccount.create }}
{{- .Values.serviceAccount.name | default (include "acceleratedjob.fullname" .) }}
{{- else }}
{{- required "serviceAccount.name must be set if serviceAccount.create is false" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "acceleratedjob.image" -}}
{{- $tag := .Values.image.tag | default .Chart.AppVersion }}
{{- printf "%s:%s" .Values.image.repository $tag }}
{{- with .Values.image.digest }}@{{ . }}{{ end }}
{{- end }}

{{- define "acceleratedjob.subjects" -}}
- kind: ServiceAccount
  name: {{ include "acceleratedjob.serviceAccount" . | quote }}
  namespace: {{ .Release.Namespace | quote }}
{{- end }}
