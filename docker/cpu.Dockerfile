# The CPU stack with a checkout of this repository. Not built by the project's tests.
#   docker build -f docker/cpu.Dockerfile -t sppo-ray:cpu .
FROM python:3.12-slim-bookworm

RUN apt-get update \
    && apt-get install --no-install-recommends -y g++=4:12.2.0-3 git=1:2.39.* make=4.3-* \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /sppo-ray
COPY . .
RUN make env PYTHON=python3

ENV PATH="/sppo-ray/.venv/bin:$PATH"
ENTRYPOINT ["sppo-ray"]
CMD ["run"]
