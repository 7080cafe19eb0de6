"""`make demo`: set up, install, train, serve, predict; exit code 0 only if all of it worked."""

import argparse
import sys
from pathlib import Path

from demo.display import DemoError, Display
from demo.flow import apply, follow
from demo.install import install
from demo.kubectl import Kubectl
from demo.predict import predict, show_results
from demo.setup import NAMESPACE, SYSTEM_NAMESPACE, existing_cluster, image_references, local_cluster


def arguments() -> argparse.Namespace:
    """The options, as the Makefile passes them."""
    parser = argparse.ArgumentParser(prog="demo", description=__doc__)
    parser.add_argument("--cluster", choices=("local", "existing"), default="local")
    parser.add_argument("--nodes", type=int, choices=(1, 2), help="nodes of the local cluster")
    parser.add_argument("--context", help="kubectl context of the existing cluster")
    parser.add_argument(
        "--kubeconfig", type=Path, help="kubeconfig with that context, else kubectl's default file"
    )
    parser.add_argument("--registry", help="image registry that the existing cluster pulls from")
    parser.add_argument("--pull-policy", default="IfNotPresent", choices=("Always", "IfNotPresent", "Never"))
    parser.add_argument("--store-class", help="storage class of the default store")
    parser.add_argument("--access-mode", help="access mode of the default store")
    options = parser.parse_args()
    if options.cluster == "existing" and not options.context:
        parser.error("CLUSTER=existing needs CONTEXT=<name>: see `kubectl config get-contexts`")
    return options


def settings(options: argparse.Namespace) -> dict[str, str]:
    """Settings of the operator for this cluster."""
    local = options.cluster == "local"
    values = {
        "LEPTON_IMAGE_PULL_POLICY": options.pull_policy,
        "LEPTON_STORE_ACCESS_MODE": options.access_mode or ("ReadWriteMany" if local else "ReadWriteOnce"),
        "LEPTON_REPORT_INTERVAL_SECONDS": "2",
    }
    if options.store_class:
        values["LEPTON_STORE_CLASS"] = options.store_class
    return values


def run(display: Display, options: argparse.Namespace) -> None:
    """The stages, one after the other."""
    if options.cluster == "local":
        kubectl = local_cluster(display, options.nodes)
    else:
        kubectl = existing_cluster(display, options.context, options.kubeconfig, options.registry)
    registry = options.registry if options.cluster == "existing" else None
    install(display, kubectl, image_references(registry), settings(options))
    apply(display, kubectl)
    follow(display, kubectl)
    predict(display, kubectl)
    show_results(display, kubectl)
    go_on(display, kubectl, options)


def go_on(display: Display, kubectl: Kubectl, options: argparse.Namespace) -> None:
    """How to look around, and how to stop."""
    base = " ".join(kubectl.arguments())
    display.title("Go on")
    if kubectl.kubeconfig:
        display.say(f"   kubeconfig: {kubectl.kubeconfig}")
    display.say(f"   {base} -n {NAMESPACE} get lds,ltj,lm -o wide")
    display.say(f"   {base} -n {NAMESPACE} describe ltj digits-cnn")
    display.say(f"   {base} -n {NAMESPACE} port-forward service/digits 8080:80")
    if options.cluster == "local":
        display.say("   stop it: make cluster-down")
    else:
        roles = "clusterrole/lepton-operator clusterrole/lepton-edit clusterrole/lepton-view"
        display.say("   remove it:")
        display.say(f"   {base} delete namespace {NAMESPACE} {SYSTEM_NAMESPACE}")
        display.say(f"   {base} delete clusterrolebinding/lepton-operator {roles}")
        display.say(f"   {base} delete -f crds")


def main() -> int:
    """The exit code."""
    display = Display()
    options = arguments()
    try:
        run(display, options)
    except DemoError as error:
        display.say(f"\nThe demo stopped: {error}")
        return 1
    except KeyboardInterrupt:
        display.say("\nInterrupted; `make demo` goes on from here")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
