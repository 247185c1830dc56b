{{/* What the pods are found by. */}}
{{- define "selector" -}}
app.kubernetes.io/name: redis
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "labels" -}}
{{ include "selector" . }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "sidecarImage" -}}
image: "{{ .Values.sidecar.image.repository }}:{{ .Values.sidecar.image.tag | default .Chart.AppVersion }}"
imagePullPolicy: {{ .Values.sidecar.image.pullPolicy }}
{{- end }}

{{/* For every container of the pod. */}}
{{- define "containerSecurity" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: ["ALL"]
{{- end }}

{{/* What `init` and the sidecar must be told alike. */}}
{{- define "sharedVariables" -}}
- name: POD_NAME
  valueFrom:
    fieldRef:
      fieldPath: metadata.name
- name: POD_NAMESPACE
  valueFrom:
    fieldRef:
      fieldPath: metadata.namespace
- name: POD_IP
  valueFrom:
    fieldRef:
      fieldPath: status.podIP
- name: HEADLESS_SERVICE
  value: {{ .Release.Name }}-headless
- name: MASTERS
  value: {{ .Values.masters | quote }}
- name: REPLICAS_PER_MASTER
  value: {{ .Values.replicasPerMaster | quote }}
# The default, set on purpose: see enableServiceLinks.
- name: REDIS_PORT
  value: "6379"
- name: DATA_DIR
  value: /data
{{- if ne .Values.clusterDomain "cluster.local" }}
- name: CLUSTER_DOMAIN
  value: {{ .Values.clusterDomain }}
{{- end }}
{{- if .Values.passwordSecret }}
- name: REDIS_PASSWORD_FILE
  value: /etc/redis-password/password
{{- end }}
{{- range $name, $value := .Values.sidecar.env }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- end }}

{{- define "passwordMount" -}}
{{- if .Values.passwordSecret }}
- name: redis-password
  mountPath: /etc/redis-password
  readOnly: true
{{- end }}
{{- end }}

{{- define "sidecar" -}}
{{- if and .Values.nativeSidecar (semverCompare "<1.29.0-0" .Capabilities.KubeVersion.Version) }}
{{- fail (printf "nativeSidecar: Kubernetes 1.29 or later, and this one is %s" .Capabilities.KubeVersion.Version) }}
{{- end }}
- name: sidecar
  {{- include "sidecarImage" . | nindent 2 }}
  {{- if .Values.nativeSidecar }}
  restartPolicy: Always
  # A day: while Redis waits, the sidecar goes on and says why. To be started again does not help it.
  startupProbe:
    httpGet:
      path: /startz
      port: http
    periodSeconds: 1
    timeoutSeconds: 1
    failureThreshold: 86400
  {{- end }}
  env:
    {{- include "sharedVariables" . | nindent 4 }}
    - name: NODE_NAME
      valueFrom:
        fieldRef:
          fieldPath: spec.nodeName
    - name: ZONE
      valueFrom:
        fieldRef:
          fieldPath: metadata.labels['topology.kubernetes.io/zone']
    - name: SOCKET
      value: /run/redis-sidecar/redis-sidecar.sock
  # The kubelet stops all containers at one time. With the same hook the sidecar stays until the handoff
  # is over.
  lifecycle:
    preStop:
      exec:
        command: ["/redis-sidecar", "pre-stop", "--grace={{ .Values.terminationGracePeriodSeconds }}"]
  ports:
    - name: http
      containerPort: 8080
  livenessProbe:
    httpGet:
      path: /livez
      port: http
    periodSeconds: 10
    timeoutSeconds: 2
    failureThreshold: 3
  readinessProbe:
    httpGet:
      path: /readyz
      port: http
    periodSeconds: 2
    timeoutSeconds: 1
    failureThreshold: 2
  resources:
    {{- toYaml .Values.sidecar.resources | nindent 4 }}
  {{- include "containerSecurity" . | nindent 2 }}
  volumeMounts:
    - name: redis-data
      mountPath: /data
    - name: sidecar
      mountPath: /run/redis-sidecar
    {{- include "passwordMount" . | nindent 4 }}
{{- end }}
