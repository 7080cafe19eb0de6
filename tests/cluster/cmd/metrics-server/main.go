// Command metrics-server is upstream's metrics-server with a command line of its own: upstream's brings
// generated OpenAPI definitions that need newer Kubernetes packages than the rest of the cluster has. The
// same definitions come from Kubernetes itself here.
package main

import (
	"fmt"
	"net"
	"os"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apiserver/pkg/endpoints/openapi"
	genericapiserver "k8s.io/apiserver/pkg/server"
	"k8s.io/apiserver/pkg/server/options"
	"k8s.io/apiserver/pkg/util/compatibility"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/component-base/cli"
	definitions "k8s.io/kubernetes/pkg/generated/openapi"
	"sigs.k8s.io/metrics-server/pkg/api"
	"sigs.k8s.io/metrics-server/pkg/scraper/client"
	"sigs.k8s.io/metrics-server/pkg/server"
)

const (
	resolution    = 10 * time.Second // the shortest that metrics-server takes
	scrapeTimeout = 5 * time.Second
)

type settings struct {
	kubeconfig     string
	kubeletCA      string
	serving        *options.SecureServingOptionsWithLoopback
	authentication *options.DelegatingAuthenticationOptions
	authorization  *options.DelegatingAuthorizationOptions
}

func main() {
	s := &settings{
		serving:        options.NewSecureServingOptions().WithLoopback(),
		authentication: options.NewDelegatingAuthenticationOptions(),
		authorization:  options.NewDelegatingAuthorizationOptions(),
	}
	command := &cobra.Command{
		Use:          "metrics-server",
		SilenceUsage: true,
		RunE:         func(*cobra.Command, []string) error { return s.run() },
	}
	flags := command.Flags()
	flags.StringVar(&s.kubeconfig, "kubeconfig", "", "how to reach the API server")
	flags.StringVar(&s.kubeletCA, "kubelet-certificate-authority", "", "file of the kubelets' authority")
	s.serving.AddFlags(flags)
	s.authentication.AddFlags(flags)
	s.authorization.AddFlags(flags)
	os.Exit(cli.Run(command))
}

func (s *settings) run() error {
	config, err := clientcmd.BuildConfigFromFlags("", s.kubeconfig)
	if err != nil {
		return err
	}
	config.ContentType = "application/vnd.kubernetes.protobuf"
	generic, err := s.generic()
	if err != nil {
		return err
	}
	completed, err := server.Config{
		Apiserver:        generic,
		Rest:             config,
		Kubelet:          s.kubelet(config),
		MetricResolution: resolution,
		ScrapeTimeout:    scrapeTimeout,
	}.Complete()
	if err != nil {
		return err
	}
	return completed.RunUntil(genericapiserver.SetupSignalHandler())
}

// generic is the library's part: TLS, and who may ask, delegated to the API server.
func (s *settings) generic() (*genericapiserver.Config, error) {
	loopback := []net.IP{net.ParseIP("127.0.0.1")}
	if err := s.serving.MaybeDefaultWithSelfSignedCerts("localhost", nil, loopback); err != nil {
		return nil, fmt.Errorf("serving certificate: %w", err)
	}
	config := genericapiserver.NewConfig(api.Codecs)
	if err := s.serving.ApplyTo(&config.SecureServing, &config.LoopbackClientConfig); err != nil {
		return nil, err
	}
	if err := s.authentication.ApplyTo(&config.Authentication, config.SecureServing, nil); err != nil {
		return nil, err
	}
	if err := s.authorization.ApplyTo(&config.Authorization); err != nil {
		return nil, err
	}
	namer := openapi.NewDefinitionNamer(api.Scheme)
	config.OpenAPIConfig = genericapiserver.DefaultOpenAPIConfig(definitions.GetOpenAPIDefinitions, namer)
	config.OpenAPIV3Config = genericapiserver.DefaultOpenAPIV3Config(definitions.GetOpenAPIDefinitions, namer)
	config.OpenAPIConfig.Info.Title = "Kubernetes metrics-server"
	config.OpenAPIV3Config.Info.Title = "Kubernetes metrics-server"
	config.EffectiveVersion = compatibility.DefaultBuildEffectiveVersion()
	return config, nil
}

func (s *settings) kubelet(config *rest.Config) *client.KubeletClientConfig {
	kubelet := rest.CopyConfig(config)
	kubelet.CAData, kubelet.CAFile = nil, s.kubeletCA
	return &client.KubeletClientConfig{
		Client:              *kubelet,
		AddressTypePriority: []corev1.NodeAddressType{corev1.NodeInternalIP},
		Scheme:              "https",
		UseNodeStatusPort:   true,
	}
}
