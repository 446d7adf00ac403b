"""Who the person is: user providers, each giving `x-pay-user`."""
