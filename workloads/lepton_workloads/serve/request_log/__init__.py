"""Pictures and answers kept for later training, where `spec.requestLog` asks for it: docs/request-log.md.

`record` makes files and lines of an answer, `folder` writes them so that a kill leaves nothing half, `retention` says
what is too old or too much, `writer` does all this in a thread behind a bounded queue, `watch` is the observer.
"""
