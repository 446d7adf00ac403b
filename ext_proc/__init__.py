"""ext_proc: sanitises request bodies and observes responses. Never decides who may pay."""
