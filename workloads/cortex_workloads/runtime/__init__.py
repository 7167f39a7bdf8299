"""What the services share: settings, servers, channels, health, errors, telemetry, Lake, live progress, embedding."""
