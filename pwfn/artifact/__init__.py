"""The fixed network on disk: ``model.pwfn``, its codebook, its sizes, its exports."""
