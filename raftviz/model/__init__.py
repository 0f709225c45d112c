"""Pure: events in, a picture of the cluster and its judgement out. No IO."""
