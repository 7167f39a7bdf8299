// A minimal operator on controller-runtime, to measure ours against: it makes the children that a file describes for
// each CortexIndex, by server-side apply, owns them, repairs them, and writes observedGeneration into the status.
//
// It decides nothing: no references, no revisions, no placement, no conditions. What it shows is what the API server,
// a cache and a work queue cost in Go for the same writes.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"os"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"
	metrics "sigs.k8s.io/controller-runtime/pkg/metrics/server"
)

const (
	manager = "benchmark"
	name    = "NAME"
	uid     = "UID"
)

var index = schema.GroupVersionKind{Group: "cortex.datapunk.io", Version: "v1alpha1", Kind: "CortexIndex"}

// reconciler makes the children of one index; `children` is a JSON list of objects with NAME and UID for the owner's.
type reconciler struct {
	client.Client
	children string
}

func (r *reconciler) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	owner := of(index)
	if err := r.Get(ctx, request.NamespacedName, owner); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	filled := strings.NewReplacer(name, owner.GetName(), uid, string(owner.GetUID())).Replace(r.children)
	var wanted []map[string]any
	if err := json.Unmarshal([]byte(filled), &wanted); err != nil {
		return ctrl.Result{}, err
	}
	for _, object := range wanted {
		child := &unstructured.Unstructured{Object: object}
		child.SetNamespace(owner.GetNamespace())
		if err := r.ensure(ctx, owner, child); err != nil {
			return ctrl.Result{}, err
		}
	}
	return ctrl.Result{}, r.observed(ctx, owner)
}

// ensure applies the child unless it is there with the note of the index.
func (r *reconciler) ensure(ctx context.Context, owner, child *unstructured.Unstructured) error {
	// A change of the spec reaches one child, as ours reaches the Deployment.
	labels := child.GetLabels()
	note, noted, _ := unstructured.NestedString(owner.Object, "spec", "template", "labels", "note")
	if noted && child.GetKind() == "Deployment" {
		labels["note"] = note
		child.SetLabels(labels)
	}
	live := of(child.GroupVersionKind())
	if err := r.Get(ctx, client.ObjectKeyFromObject(child), live); client.IgnoreNotFound(err) != nil {
		return err
	} else if err == nil && live.GetLabels()["note"] == labels["note"] {
		return nil
	}
	return r.Apply(ctx, client.ApplyConfigurationFromUnstructured(child), client.FieldOwner(manager), client.ForceOwnership)
}

func (r *reconciler) observed(ctx context.Context, owner *unstructured.Unstructured) error {
	seen, _, _ := unstructured.NestedInt64(owner.Object, "status", "observedGeneration")
	if seen == owner.GetGeneration() {
		return nil
	}
	before := owner.DeepCopy()
	status := map[string]any{"observedGeneration": owner.GetGeneration()}
	if err := unstructured.SetNestedMap(owner.Object, status, "status"); err != nil {
		return err
	}
	return r.Status().Patch(ctx, owner, client.MergeFrom(before))
}

func of(kind schema.GroupVersionKind) *unstructured.Unstructured {
	object := &unstructured.Unstructured{}
	object.SetGroupVersionKind(kind)
	return object
}

func main() {
	file := flag.String("children", "", "JSON list of the children of one index, with NAME and UID for the owner's")
	workers := flag.Int("workers", 4, "reconciles at a time")
	flag.Parse()
	log.SetLogger(zap.New(zap.UseDevMode(false)))
	if err := run(*file, *workers); err != nil {
		log.Log.Error(err, "ended")
		os.Exit(1)
	}
}

func run(file string, workers int) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var children []unstructured.Unstructured
	if err := json.Unmarshal(text, &children); err != nil {
		return err
	}
	config := ctrl.GetConfigOrDie()
	unlimited(config)
	m, err := ctrl.NewManager(config, ctrl.Options{
		Metrics: metrics.Options{BindAddress: "0"},
		Client:  client.Options{Cache: &client.CacheOptions{Unstructured: true}},
	})
	if err != nil {
		return err
	}
	building := ctrl.NewControllerManagedBy(m).For(of(index)).WithOptions(controller.Options{MaxConcurrentReconciles: workers})
	seen := map[schema.GroupVersionKind]bool{}
	for _, child := range children {
		if kind := child.GroupVersionKind(); !seen[kind] {
			seen[kind] = true
			building = building.Owns(of(kind))
		}
	}
	if err := building.Complete(&reconciler{m.GetClient(), string(text)}); err != nil {
		return err
	}
	return m.Start(ctrl.SetupSignalHandler())
}

// unlimited takes client-go's own limit of requests away: ours has none.
func unlimited(config *rest.Config) {
	config.QPS = -1
}
