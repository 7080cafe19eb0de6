"""The one description of what the operator hands to a pod and what the pod hands back.

The operator may import this package and nothing else of the workloads; it needs only the
standard library and pydantic. The rooms:

- `base`: the pydantic base and its JSON form (camelCase, unknown fields refused).
- `data`: pictures, splits, the prepared dataset on disk.
- `network`: the network and how it is trained.
- `tasks`: what a container is told (environment variable `LEPTON_TASK`), where its volumes are.
- `outcome`: what a container says: exit codes, the termination message, the report it serves.
- `artifact`: a model version on disk: file names, signature, lineage.
"""
