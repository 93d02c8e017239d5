"""What training hears: corpora, manifests, shards, samplers and augmentation."""
