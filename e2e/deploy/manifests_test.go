package deploy

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
	strict "sigs.k8s.io/yaml"
)

// kinds are what the manifests may hold.
var kinds = map[string]func() any{
	"v1/Namespace":                       func() any { return &corev1.Namespace{} },
	"v1/ConfigMap":                       func() any { return &corev1.ConfigMap{} },
	"v1/ServiceAccount":                  func() any { return &corev1.ServiceAccount{} },
	"v1/Service":                         func() any { return &corev1.Service{} },
	"apps/v1/Deployment":                 func() any { return &appsv1.Deployment{} },
	"apps/v1/StatefulSet":                func() any { return &appsv1.StatefulSet{} },
	"policy/v1/PodDisruptionBudget":      func() any { return &policyv1.PodDisruptionBudget{} },
	"networking.k8s.io/v1/NetworkPolicy": func() any { return &networkingv1.NetworkPolicy{} },
}

// decode reads the documents of a file. What Kubernetes does not know, or knows
// otherwise, is an error.
func decode(raw []byte) (objects []any, err error) {
	documents := yaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(raw)))
	for {
		document, err := documents.Read()
		if err == io.EOF {
			return objects, nil
		}
		if err != nil {
			return nil, err
		}
		var of metav1.TypeMeta
		if err := strict.Unmarshal(document, &of); err != nil {
			return nil, err
		}
		made, known := kinds[of.APIVersion+"/"+of.Kind]
		if !known {
			return nil, &unknownKind{of.APIVersion + "/" + of.Kind}
		}
		object := made()
		if err := strict.UnmarshalStrict(document, object); err != nil {
			return nil, err
		}
		objects = append(objects, object)
	}
}

type unknownKind struct{ name string }

func (e *unknownKind) Error() string { return "no kind " + e.name }

// shipped are the texts of the manifests, by their files' names.
func shipped(t *testing.T) map[string]string {
	t.Helper()
	paths, err := filepath.Glob(files + "/kubernetes/*.yaml")
	if err != nil || len(paths) < 5 {
		t.Fatalf("manifests: %v, %v", paths, err)
	}
	texts := map[string]string{}
	for _, path := range paths {
		if name := filepath.Base(path); name != "nats-values.yaml" { // of a chart
			texts[name] = string(read(t, path))
		}
	}
	return texts
}

// workload is what of a Deployment or a StatefulSet matters here.
type workload struct {
	name string
	pod  corev1.PodTemplateSpec
}

// cluster is everything that the manifests make, by its kind.
type cluster struct {
	namespace *corev1.Namespace
	config    *corev1.ConfigMap
	account   *corev1.ServiceAccount
	workloads []workload
	selectors map[string][]*metav1.LabelSelector // by the name of what is selected
	services  []*corev1.Service
	policies  []*networkingv1.NetworkPolicy
}

// assemble decodes the manifests. It returns also what is wrong with them.
func assemble(texts map[string]string) (c cluster, faults []string) {
	c.selectors = map[string][]*metav1.LabelSelector{}
	add := func(name string, pod *corev1.PodTemplateSpec, s *metav1.LabelSelector) {
		if pod != nil {
			c.workloads = append(c.workloads, workload{name, *pod})
		}
		c.selectors[name] = append(c.selectors[name], s)
	}
	for file, text := range texts {
		objects, err := decode([]byte(text))
		if err != nil {
			faults = append(faults, fmt.Sprintf("%s: %v", file, err))
		}
		for _, object := range objects {
			meta := object.(metav1.ObjectMetaAccessor).GetObjectMeta()
			if _, isNamespace := object.(*corev1.Namespace); !isNamespace && meta.GetNamespace() != "reprise" {
				faults = append(faults, fmt.Sprintf("%T %s is in the namespace %q", object, meta.GetName(), meta.GetNamespace()))
			}
			switch o := object.(type) {
			case *corev1.Namespace:
				c.namespace = o
			case *corev1.ConfigMap:
				c.config = o
			case *corev1.ServiceAccount:
				c.account = o
			case *appsv1.Deployment:
				add(o.Name, &o.Spec.Template, o.Spec.Selector)
			case *appsv1.StatefulSet:
				add(o.Name, &o.Spec.Template, o.Spec.Selector)
			case *policyv1.PodDisruptionBudget:
				add(o.Name, nil, o.Spec.Selector)
			case *corev1.Service:
				c.services = append(c.services, o)
				add(o.Name, nil, &metav1.LabelSelector{MatchLabels: o.Spec.Selector})
			case *networkingv1.NetworkPolicy:
				c.policies = append(c.policies, o)
				add(o.Name, nil, &o.Spec.PodSelector)
			}
		}
	}
	if c.namespace == nil || c.config == nil || c.account == nil || len(c.workloads) != 2 {
		faults = append(faults, "a namespace, a config map, a service account or one of two workloads is missing")
	}
	return c, faults
}

// judge says what no type can: names that must agree, hardening, times.
func judge(texts map[string]string) []string {
	c, faults := assemble(texts)
	if len(faults) > 0 {
		return faults
	}
	level, err := api.ParseLevel(c.namespace.Labels[api.EnforceLevelLabel])
	if err != nil || level != api.LevelRestricted {
		faults = append(faults, fmt.Sprintf("the namespace enforces %q, %v, want restricted", level, err))
	}
	ports := map[string][]corev1.ContainerPort{}
	for _, w := range c.workloads {
		for _, s := range c.selectors[w.name] {
			selector, err := metav1.LabelSelectorAsSelector(s)
			if err != nil || s.Size() == 0 || !selector.Matches(labels.Set(w.pod.Labels)) {
				faults = append(faults, fmt.Sprintf("%s: the selector %v, %v, does not select its pods %v", w.name, s, err, w.pod.Labels))
			}
		}
		faults = append(faults, refused(w.name, w.pod.Spec)...)
		faults = append(faults, judgePod(w.name, w.pod.Spec, c)...)
		ports[w.name] = w.pod.Spec.Containers[0].Ports
	}
	for _, s := range c.services {
		for _, p := range s.Spec.Ports {
			if !slices.ContainsFunc(ports[s.Name], func(c corev1.ContainerPort) bool { return c.Name == p.TargetPort.StrVal }) {
				faults = append(faults, fmt.Sprintf("the service %s leads to the port %v, which its pods do not have", s.Name, p.TargetPort))
			}
		}
	}
	for _, p := range c.policies {
		known, ours := ports[p.Name]
		for _, rule := range p.Spec.Ingress {
			for _, open := range rule.Ports {
				if ours && !slices.ContainsFunc(known, func(c corev1.ContainerPort) bool { return c.ContainerPort == open.Port.IntVal }) {
					faults = append(faults, fmt.Sprintf("the policy %s opens the port %v, which its pods do not have", p.Name, open.Port))
				}
			}
		}
	}
	return faults
}

// refused says why the namespace would not take a pod, by Kubernetes' own rules.
func refused(name string, pod corev1.PodSpec) []string {
	rules, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		return []string{err.Error()}
	}
	result := policy.AggregateCheckResults(rules.EvaluatePod(
		api.LevelVersion{Level: api.LevelRestricted, Version: api.LatestVersion()}, &metav1.ObjectMeta{Name: name}, &pod))
	if result.Allowed {
		return nil
	}
	return []string{name + ": the namespace does not take the pod: " + result.ForbiddenDetail()}
}

// judgePod looks at one pod, which the namespace takes.
func judgePod(name string, pod corev1.PodSpec, in cluster) (faults []string) {
	fault := func(format string, args ...any) {
		faults = append(faults, name+": "+fmt.Sprintf(format, args...))
	}
	if len(pod.Containers) != 1 {
		fault("it has %d containers, want one", len(pod.Containers))
		return faults
	}
	c := pod.Containers[0]
	if pod.ServiceAccountName != in.account.Name || pod.AutomountServiceAccountToken == nil || *pod.AutomountServiceAccountToken {
		fault("it runs as %q, or is given its token", pod.ServiceAccountName)
	}
	if c.SecurityContext == nil || c.SecurityContext.ReadOnlyRootFilesystem == nil || !*c.SecurityContext.ReadOnlyRootFilesystem {
		fault("it can write to its image")
	}
	if pod.Affinity == nil || pod.Affinity.PodAntiAffinity == nil {
		fault("its pods may all be on one machine")
	}
	if !slices.ContainsFunc(c.Env, func(e corev1.EnvVar) bool {
		return e.Name == "REPRISE_NODE" && e.ValueFrom != nil && e.ValueFrom.FieldRef != nil && e.ValueFrom.FieldRef.FieldPath == "metadata.name"
	}) {
		fault("its node is not named after the pod")
	}

	// Each volume is of something that there is, and mounted where it is looked for.
	mounted := map[string]string{}
	for _, m := range c.VolumeMounts {
		if !m.ReadOnly {
			fault("%s can be written", m.Name)
		}
		at := slices.IndexFunc(pod.Volumes, func(v corev1.Volume) bool { return v.Name == m.Name })
		if at < 0 {
			fault("%s is mounted, and there is no such volume", m.Name)
			continue
		}
		switch v := pod.Volumes[at]; {
		case v.ConfigMap != nil && v.ConfigMap.Name == in.config.Name:
			mounted["config"] = m.MountPath
		case v.Secret != nil && v.Secret.SecretName == "reprise":
			mounted["secrets"] = m.MountPath
			if mode := v.Secret.DefaultMode; mode == nil || *mode&0o007 != 0 {
				fault("everybody can read the secret")
			}
		default:
			fault("the volume %s is of nothing that is made here", m.Name)
		}
	}
	if len(c.Args) != 3 || c.Args[1] != "--config" || filepath.Dir(c.Args[2]) != mounted["config"] || in.config.Data[filepath.Base(c.Args[2])] == "" {
		fault("its arguments %q name no file of the config map", c.Args)
		return faults
	}

	// The settings fit the pod.
	var set map[string]any
	if err := strict.UnmarshalStrict([]byte(in.config.Data[filepath.Base(c.Args[2])]), &set); err != nil {
		fault("its settings: %v", err)
		return faults
	}
	drain := 20 * time.Second
	for key, value := range set {
		text := fmt.Sprint(value)
		switch {
		case key == "drain":
			d, err := time.ParseDuration(text)
			if err != nil {
				fault("drain: %v", err)
			}
			drain = d
		case strings.HasSuffix(key, "-file"):
			if filepath.Dir(text) != mounted["secrets"] || !slices.Contains(secrets, filepath.Base(text)) {
				fault("%s is %s, which is none of the secrets %v in %s", key, text, secrets, mounted["secrets"])
			}
		case key == "listen" || key == "admin-listen":
			called := map[string]string{"listen": "devices", "admin-listen": "admin"}[key]
			if !slices.ContainsFunc(c.Ports, func(p corev1.ContainerPort) bool {
				return p.Name == called && strings.HasSuffix(text, fmt.Sprintf(":%d", p.ContainerPort))
			}) {
				fault("%s is %s, and its port %s is another", key, text, called)
			}
		}
	}
	for path, probe := range map[string]*corev1.Probe{"/readyz": c.ReadinessProbe, "/healthz": c.LivenessProbe} {
		if probe == nil || probe.HTTPGet == nil || probe.HTTPGet.Path != path || probe.HTTPGet.Port.StrVal != "admin" {
			fault("no probe asks for %s at the port admin", path)
		}
	}
	if grace := pod.TerminationGracePeriodSeconds; grace == nil || time.Duration(*grace)*time.Second < drain+10*time.Second {
		fault("terminationGracePeriodSeconds is not above the drain of %v, 5 s of grace and some", drain)
	}
	return faults
}

// secrets are the files that the config map's comment tells people to make.
var secrets = []string{"jwt.key", "admin.token", "pubnub-subscribe.key", "pubnub-publish.key"}

func TestManifests(t *testing.T) {
	t.Parallel()
	texts := shipped(t)
	for _, fault := range judge(texts) {
		t.Error(fault)
	}
	for _, text := range []string{texts["config.yaml"], string(read(t, files+"/README.md"))} {
		for _, secret := range secrets {
			if !strings.Contains(text, "--from-file="+secret) {
				t.Errorf("the command that makes the secrets does not make %s", secret)
			}
		}
	}
	c, _ := assemble(texts)
	for _, w := range c.workloads {
		t.Run(w.name, func(t *testing.T) {
			t.Parallel()
			startsWith(t, w.name, w.pod.Spec.Containers[0].Args, c.config)
		})
	}
}

// TestBroken holds the judgement to finding mistakes.
func TestBroken(t *testing.T) {
	t.Parallel()
	good := shipped(t)
	for _, c := range []struct{ file, old, new, want string }{
		{"edge.yaml", "      labels: {app.kubernetes.io/name: reprise, app", "      labels: {app.kubernetes.io/name: other, app", "does not select"},
		{"edge.yaml", "targetPort: devices", "targetPort: device", "which its pods do not have"},
		{"edge.yaml", "{name: secrets, mountPath", "{name: secret, mountPath", "no such volume"},
		{"edge.yaml", "secretName: reprise", "secretName: others", "nothing that is made here"},
		{"edge.yaml", "defaultMode: 0440", "defaultMode: 0444", "everybody can read"},
		{"edge.yaml", "mountPath: /run/secrets/reprise", "mountPath: /run/secrets", "none of the secrets"},
		{"edge.yaml", "Seconds: 60", "Seconds: 30", "not above the drain"},
		{"edge.yaml", "runAsNonRoot: true", "runAsNonRoot: false", "does not take the pod"},
		{"edge.yaml", "drop: [ALL]", "drop: [NET_RAW]", "does not take the pod"},
		{"edge.yaml", "readOnlyRootFilesystem: true", "readOnlyRootFilesystem: false", "can write to its image"},
		{"edge.yaml", "path: /readyz", "path: /ready", "no probe asks for /readyz"},
		{"edge.yaml", "containerPort: 8080", "containerPort: 8081", "is another"},
		{"edge.yaml", "fieldPath: metadata.name", "fieldPath: spec.nodeName", "not named after the pod"},
		{"bridge.yaml", "[bridge, --config, /etc/reprise/bridge.yaml]", "[bridge, --config, /etc/reprise/b.yaml]", "no file of the config map"},
		{"bridge.yaml", "automountServiceAccountToken: false", "automountServiceAccountToken: true", "its token"},
		{"bridge.yaml", "namespace: reprise", "namespace: default", "is in the namespace"},
		{"config.yaml", "drain: 30s", "drain: 90s", "not above the drain"},
		{"config.yaml", "drain: 30s", "drain: 30s\n    drain: 31s", "its settings"},
		{"network.yaml", "port: 8080", "port: 8081", "opens the port"},
		{"namespace.yaml", "enforce: restricted", "enforce: baseline", "want restricted"},
	} {
		texts := maps.Clone(good)
		texts[c.file] = strings.Replace(good[c.file], c.old, c.new, 1)
		if texts[c.file] == good[c.file] {
			t.Errorf("%s: %q: nothing was broken", c.file, c.old)
		} else if faults := judge(texts); !strings.Contains(strings.Join(faults, "\n"), c.want) {
			t.Errorf("judge with %q in %s = %q, want one that says %q", c.new, c.file, faults, c.want)
		}
	}
}

// startsWith starts the program as the pod does, with files in place of the
// secrets and without a NATS: the exit code must be 1 for that, and not 2 for the
// configuration. That takes the minute for which the program waits for NATS.
func startsWith(t *testing.T, name string, args []string, config *corev1.ConfigMap) {
	t.Helper()
	dir := t.TempDir()
	text := config.Data[filepath.Base(args[len(args)-1])]
	const mounted = "/run/secrets/reprise/"
	for _, secret := range secrets {
		write(t, filepath.Join(dir, secret), "a secret of thirty-two bytes ....")
	}
	rendered := write(t, filepath.Join(dir, "config.yaml"), strings.ReplaceAll(text, mounted, dir+"/"))
	more := []string{"--nats-url", "nats://127.0.0.1:1", "--admin-listen", "0.0.0.0:0"}
	if args[0] == "edge" {
		more = append(more, "--listen", "0.0.0.0:0")
	}
	code, out := run(t, binary, append(append(args[:1:1], more...), "--config", rendered)...)
	if code != 1 || !strings.Contains(out, "127.0.0.1:1") {
		t.Errorf("%s: reprise %s = %d, want 1 because of NATS alone\n%s", name, args[0], code, out)
	}
	// A mistake in it would have been found.
	wrong := write(t, filepath.Join(dir, "wrong.yaml"), strings.ReplaceAll(text, mounted, dir+"/")+"drian: 1s\n")
	if code, out := run(t, binary, append(append(args[:1:1], more...), "--config", wrong)...); code != 2 || !strings.Contains(out, "drian") {
		t.Errorf("%s: a mistake in the configuration = %d, %s, want 2", name, code, out)
	}
}

// TestStrict holds the decoding to finding mistakes.
func TestStrict(t *testing.T) {
	t.Parallel()
	good := string(read(t, files+"/kubernetes/edge.yaml"))
	for what, broken := range map[string]string{
		"a misspelt field":  strings.Replace(good, "terminationGracePeriodSeconds", "terminationGracePeriodSecond", 1),
		"a field elsewhere": strings.Replace(good, "  replicas: 3\n", "  replicas: 3\n  image: x\n", 1),
		"text for a number": strings.Replace(good, "replicas: 3", "replicas: three", 1),
		"a field twice":     strings.Replace(good, "replicas: 3", "replicas: 3\n  replicas: 2", 1),
		"another kind":      strings.Replace(good, "kind: StatefulSet", "kind: StatefulSets", 1),
	} {
		if broken == good {
			t.Fatalf("%s: nothing was broken", what)
		}
		if _, err := decode([]byte(broken)); err == nil {
			t.Errorf("decode(%s) error = nil, want one", what)
		}
	}
}

// TestNATSValues holds the chart's values to three servers with JetStream on disk,
// in pods that the namespace takes. Of the chart itself nothing is here: that
// these are its names was read in it.
func TestNATSValues(t *testing.T) {
	t.Parallel()
	type merged struct {
		Merge struct {
			SecurityContext *corev1.SecurityContext `json:"securityContext"`
		} `json:"merge"`
	}
	type values struct {
		Config struct {
			Cluster struct {
				Enabled  bool  `json:"enabled"`
				Replicas int32 `json:"replicas"`
			} `json:"cluster"`
			JetStream struct {
				Enabled   bool `json:"enabled"`
				FileStore struct {
					Enabled bool `json:"enabled"`
					PVC     struct {
						Enabled bool              `json:"enabled"`
						Size    resource.Quantity `json:"size"`
					} `json:"pvc"`
				} `json:"fileStore"`
			} `json:"jetstream"`
		} `json:"config"`
		PodTemplate struct {
			Spread map[string]corev1.TopologySpreadConstraint `json:"topologySpreadConstraints"`
			Merge  struct {
				Spec corev1.PodSpec `json:"spec"`
			} `json:"merge"`
		} `json:"podTemplate"`
		Container merged `json:"container"`
		Reloader  merged `json:"reloader"`
		NATSBox   struct {
			Enabled bool `json:"enabled"`
		} `json:"natsBox"`
	}
	judge := func(text string) []string {
		var v values
		if err := strict.UnmarshalStrict([]byte(text), &v); err != nil {
			return []string{err.Error()}
		}
		if c, js := v.Config.Cluster, v.Config.JetStream; !c.Enabled || c.Replicas != 3 || !js.Enabled || !js.FileStore.Enabled || !js.FileStore.PVC.Enabled {
			return []string{fmt.Sprintf("%+v is not three servers with JetStream on disk", v.Config)}
		}
		if len(v.PodTemplate.Spread) == 0 || v.NATSBox.Enabled {
			return []string{"they may all be on one machine, or there is a nats-box"}
		}
		// The chart's pod has these two containers.
		pod := v.PodTemplate.Merge.Spec
		pod.Containers = []corev1.Container{
			{Name: "nats", SecurityContext: v.Container.Merge.SecurityContext},
			{Name: "reloader", SecurityContext: v.Reloader.Merge.SecurityContext},
		}
		return refused("nats", pod)
	}
	good := string(read(t, files+"/kubernetes/nats-values.yaml"))
	for _, fault := range judge(good) {
		t.Error(fault)
	}
	for old, broken := range map[string]string{
		"replicas: 3":        "replicas: 2",
		"size: 50Gi":         "size: much",
		"runAsNonRoot: true": "runAsNonRoot: false",
		"reloader:":          "reloaders:",
		"drop: [ALL]":        "drop: []",
	} {
		if text := strings.Replace(good, old, broken, 1); text == good || len(judge(text)) == 0 {
			t.Errorf("with %q in place of %q nothing was found", broken, old)
		}
	}
}
