"""The tests, sorted by what they claim: unit, model, litmus, faults, native, examples."""
