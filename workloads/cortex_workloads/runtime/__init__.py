"""What the services share: settings, servers, channels, health, errors, telemetry, the Lake, live progress, embedding."""
