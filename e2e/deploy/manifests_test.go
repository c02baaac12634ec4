package deploy

import (
	"bufio"
	"bytes"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/yaml"
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

// manifests are all objects that are shipped.
func manifests(t *testing.T) (objects []any) {
	t.Helper()
	paths, err := filepath.Glob(files + "/kubernetes/*.yaml")
	if err != nil || len(paths) < 5 {
		t.Fatalf("manifests: %v, %v", paths, err)
	}
	for _, path := range paths {
		if strings.HasSuffix(path, "nats-values.yaml") {
			continue // of a chart
		}
		some, err := decode(read(t, path))
		if err != nil {
			t.Errorf("%s: %v", path, err)
		}
		objects = append(objects, some...)
	}
	return objects
}

func TestManifests(t *testing.T) {
	t.Parallel()
	var config *corev1.ConfigMap
	pods := map[string]corev1.PodTemplateSpec{}
	selectors := map[string][]*metav1.LabelSelector{}
	for _, object := range manifests(t) {
		meta := object.(metav1.ObjectMetaAccessor).GetObjectMeta()
		if _, isNamespace := object.(*corev1.Namespace); !isNamespace && meta.GetNamespace() != "reprise" {
			t.Errorf("%T %s is in the namespace %q", object, meta.GetName(), meta.GetNamespace())
		}
		switch o := object.(type) {
		case *corev1.ConfigMap:
			config = o
		case *appsv1.Deployment:
			pods[o.Name], selectors[o.Name] = o.Spec.Template, append(selectors[o.Name], o.Spec.Selector)
		case *appsv1.StatefulSet:
			pods[o.Name], selectors[o.Name] = o.Spec.Template, append(selectors[o.Name], o.Spec.Selector)
		case *policyv1.PodDisruptionBudget:
			selectors[o.Name] = append(selectors[o.Name], o.Spec.Selector)
		case *corev1.Service:
			selectors[o.Name] = append(selectors[o.Name], &metav1.LabelSelector{MatchLabels: o.Spec.Selector})
		case *networkingv1.NetworkPolicy:
			selectors[o.Name] = append(selectors[o.Name], &o.Spec.PodSelector)
		}
	}
	if config == nil || len(pods) != 2 {
		t.Fatalf("config map %v, pods %v, want one and two", config, pods)
	}
	for name, pod := range pods {
		for _, s := range selectors[name] {
			selector, err := metav1.LabelSelectorAsSelector(s)
			if err != nil || s.Size() == 0 || !selector.Matches(labels.Set(pod.Labels)) {
				t.Errorf("%s: the selector %v, %v, does not select its pods %v", name, s, err, pod.Labels)
			}
		}
		checkPod(t, name, pod.Spec, config)
	}
}

// checkPod looks at what no type can: names that must agree, hardening, times.
func checkPod(t *testing.T, name string, pod corev1.PodSpec, config *corev1.ConfigMap) {
	t.Helper()
	c := pod.Containers[0]
	var volumes, ports []string
	for _, v := range pod.Volumes {
		volumes = append(volumes, v.Name)
		if v.Secret != nil && *v.Secret.DefaultMode&0o007 != 0 {
			t.Errorf("%s: everybody can read the secret %s", name, v.Name)
		}
	}
	for _, p := range c.Ports {
		ports = append(ports, p.Name)
	}
	for _, m := range c.VolumeMounts {
		if !slices.Contains(volumes, m.Name) || !m.ReadOnly {
			t.Errorf("%s: %s is mounted, and there is no such volume, or it can be written", name, m.Name)
		}
	}
	for _, probe := range []*corev1.Probe{c.ReadinessProbe, c.LivenessProbe} {
		if probe == nil || !slices.Contains(ports, probe.HTTPGet.Port.StrVal) {
			t.Errorf("%s: a probe is missing, or asks a port that is none of %v", name, ports)
		}
	}
	s := c.SecurityContext
	if s == nil || *s.AllowPrivilegeEscalation || !*s.ReadOnlyRootFilesystem || !slices.Contains(s.Capabilities.Drop, "ALL") ||
		!*pod.SecurityContext.RunAsNonRoot || pod.SecurityContext.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault {
		t.Errorf("%s: is not hardened", name)
	}
	if pod.Affinity == nil || pod.Affinity.PodAntiAffinity == nil {
		t.Errorf("%s: its pods may all be on one machine", name)
	}
	text := startsWith(t, name, c.Args, config)
	drain := 20 * time.Second
	if _, rest, ok := strings.Cut(text, "\ndrain: "); ok {
		d, err := time.ParseDuration(strings.TrimSpace(strings.SplitN(rest, "\n", 2)[0]))
		if err != nil {
			t.Errorf("%s: drain: %v", name, err)
		}
		drain = d
	}
	if grace := time.Duration(*pod.TerminationGracePeriodSeconds) * time.Second; grace < drain+10*time.Second-time.Second {
		t.Errorf("%s: terminationGracePeriodSeconds %v is not above the drain of %v, 5 s of grace and some", name, grace, drain)
	}
}

// startsWith starts the program as the pod does, with files in place of the
// secrets and without a NATS: the exit code must be 1 for that, and not 2 for the
// configuration. It returns the configuration.
func startsWith(t *testing.T, name string, args []string, config *corev1.ConfigMap) string {
	t.Helper()
	dir := t.TempDir()
	path := args[len(args)-1]
	text, ok := config.Data[filepath.Base(path)]
	if !ok || args[len(args)-2] != "--config" {
		t.Fatalf("%s: its arguments %v name no file of the config map", name, args)
	}
	const mounted = "/run/secrets/reprise/"
	for _, secret := range []string{"jwt.key", "admin.token", "pubnub-subscribe.key", "pubnub-publish.key"} {
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
	return text
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

// TestNATSValues holds the chart's values to being YAML with three replicas.
func TestNATSValues(t *testing.T) {
	t.Parallel()
	var v struct {
		Config struct {
			Cluster struct {
				Enabled  bool
				Replicas int
			}
			Jetstream struct {
				Enabled   bool
				FileStore struct{ Enabled bool }
			}
		}
	}
	if err := strict.Unmarshal(read(t, files+"/kubernetes/nats-values.yaml"), &v); err != nil {
		t.Fatal(err)
	}
	if c := v.Config; !c.Cluster.Enabled || c.Cluster.Replicas != 3 || !c.Jetstream.Enabled || !c.Jetstream.FileStore.Enabled {
		t.Errorf("nats-values.yaml = %+v, want three servers with JetStream on disk", c)
	}
}
