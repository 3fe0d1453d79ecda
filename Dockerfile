# The node and its devnet, set up by the same target as `make devnet`. UNBUILT: written with care, never built or run.
# docker build -t astralink . && docker run --rm -it -p 127.0.0.1:8545:8545 -v astralink:/data astralink
FROM debian:12-slim
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3.11 python3.11-venv make gcc ca-certificates \
    && rm -rf /var/lib/apt/lists/*
RUN useradd --create-home --uid 1000 astralink && install --directory --owner astralink /data
WORKDIR /home/astralink/astralink
COPY --chown=astralink . .
USER astralink
RUN make install
VOLUME /data
EXPOSE 8545
# Inside the container loopback cannot be reached from outside: publish the port on the host's loopback, as above.
ENTRYPOINT [".venv/bin/astralink-node"]
CMD ["devnet", "--dir", "/data", "--rpc-host", "0.0.0.0"]
