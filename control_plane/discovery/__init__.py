"""Where the hosts of services are found when the policy does not list them."""
