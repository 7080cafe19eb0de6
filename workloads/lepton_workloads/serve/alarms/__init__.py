"""Alarms: what a prediction means for the rules of `spec.alarms`, and telling of it by CloudEvents.

`rules` decides, `cloud_events` writes the event, `post` and `sender` deliver it, `watch` brings them together. Only
`watch` runs where requests are answered: it compares, appends and goes on.
"""
