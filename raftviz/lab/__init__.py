"""The laboratory process: servers, network, clock (design §3). Knows no screen."""
