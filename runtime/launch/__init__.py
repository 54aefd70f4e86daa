"""`python -m runtime.launch`: starts the training processes of a pod or machine."""
