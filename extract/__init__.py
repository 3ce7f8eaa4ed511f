"""Stage one: recordings to manifests, manifests to hidden states in stores."""
