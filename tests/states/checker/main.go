// Command checker reads one JSON line for each question, `{"object": {...}, "script": "..."}`, and answers with one
// line: what kstatus computes, in its two living versions, and what Argo CD says when `script` is the health check.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"

	flux "github.com/fluxcd/cli-utils/pkg/kstatus/status"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	kstatus "sigs.k8s.io/cli-utils/pkg/kstatus/status"
)

type question struct {
	Object *unstructured.Unstructured `json:"object"`
	Script string                     `json:"script"`
}

type answer struct {
	// Kstatus is the answer of sigs.k8s.io/cli-utils.
	Kstatus string `json:"kstatus"`
	// Flux is the answer of github.com/fluxcd/cli-utils, which Flux and Helm use.
	Flux string `json:"flux"`
	// KstatusMessage is what cli-utils says to it.
	KstatusMessage string `json:"kstatusMessage"`
	Health         string `json:"health"`
	HealthMessage  string `json:"healthMessage"`
}

func main() {
	if err := run(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "checker:", err)
		os.Exit(1)
	}
}

func run(in io.Reader, out io.Writer) error {
	questions, answers := json.NewDecoder(bufio.NewReader(in)), json.NewEncoder(out)
	for {
		var asked question
		if err := questions.Decode(&asked); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		told, err := look(asked)
		if err != nil {
			return fmt.Errorf("%s %s: %w", asked.Object.GetKind(), asked.Object.GetName(), err)
		}
		if err := answers.Encode(told); err != nil {
			return err
		}
	}
}

func look(asked question) (answer, error) {
	computed, err := kstatus.Compute(asked.Object)
	if err != nil {
		return answer{}, err
	}
	byFlux, err := flux.Compute(asked.Object)
	if err != nil {
		return answer{}, err
	}
	healthStatus, healthMessage, err := health(asked.Object, asked.Script)
	if err != nil {
		return answer{}, err
	}
	return answer{
		Kstatus:        computed.Status.String(),
		Flux:           byFlux.Status.String(),
		KstatusMessage: computed.Message,
		Health:         healthStatus,
		HealthMessage:  healthMessage,
	}, nil
}
