// Command provisioner makes the volumes of the StorageClass lepton-local: one folder of the
// machine each. Every node is on the same machine and sees the same path, so a claim may be
// ReadWriteMany. It runs beside the control plane, not in a pod.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
	"sigs.k8s.io/sig-storage-lib-external-provisioner/v13/controller"
)

const name = "lepton.dev/local"

type localProvisioner struct {
	root string
}

// Provision makes the folder, writable by any user: pods run as arbitrary non-root users, and the
// kubelet applies no fsGroup to a hostPath volume.
func (p *localProvisioner) Provision(_ context.Context, options controller.ProvisionOptions) (
	*v1.PersistentVolume, controller.ProvisioningState, error,
) {
	claim := options.PVC
	if claim.Spec.Selector != nil {
		return nil, controller.ProvisioningFinished, fmt.Errorf("claim selectors are not supported")
	}
	path := p.path(options.PVName)
	if err := os.MkdirAll(path, 0o777); err != nil {
		return nil, controller.ProvisioningFinished, err
	}
	if err := os.Chmod(path, 0o777); err != nil { // the umask took bits from MkdirAll
		return nil, controller.ProvisioningFinished, err
	}
	directory := v1.HostPathDirectory
	volume := &v1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: options.PVName},
		Spec: v1.PersistentVolumeSpec{
			AccessModes:                   claim.Spec.AccessModes,
			Capacity:                      v1.ResourceList{v1.ResourceStorage: claim.Spec.Resources.Requests[v1.ResourceStorage]},
			PersistentVolumeReclaimPolicy: *options.StorageClass.ReclaimPolicy,
			PersistentVolumeSource: v1.PersistentVolumeSource{
				HostPath: &v1.HostPathVolumeSource{Path: path, Type: &directory},
			},
		},
	}
	return volume, controller.ProvisioningFinished, nil
}

// Delete removes the folder of the volume, found by its name and never by the path in the object.
func (p *localProvisioner) Delete(_ context.Context, volume *v1.PersistentVolume) error {
	return os.RemoveAll(p.path(volume.Name))
}

func (p *localProvisioner) path(volume string) string {
	return filepath.Join(p.root, filepath.Base(volume))
}

func main() {
	kubeconfig := flag.String("kubeconfig", "", "how to reach the API server")
	root := flag.String("root", "", "folder of the volumes")
	klog.InitFlags(nil)
	flag.Parse()
	if err := run(*kubeconfig, *root); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(kubeconfig, root string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return err
	}
	config.QPS, config.Burst = 100, 200
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	controller.NewProvisionController(ctx, client, name, &localProvisioner{root: root},
		controller.LeaderElection(false), controller.MetricsPort(0)).Run(ctx)
	return nil
}
