"""ext_proc: sanitises requests and answers, signs changed answers, observes outcomes. Never decides who may pay."""
