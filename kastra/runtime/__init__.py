"""The controller runtime: informers, work queues, reconcilers and the manager that runs them."""
