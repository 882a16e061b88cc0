"""What the guards of a model call cost, beside a bare proxy on the same client and provider: `make benchmarks`."""
