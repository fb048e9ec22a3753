# The GPU stack: CUDA 13 needs NVIDIA's driver 580 or newer on the host. Not built by the project's tests, and not tried on a GPU.
#   docker build -f docker/gpu.Dockerfile -t sppo-ray:gpu .
FROM nvidia/cuda:13.0.1-devel-ubuntu24.04

# Triton and FlashInfer compile at run time: a compiler, Python.h and nvcc (of the devel image) have to be there.
# KubeRay's probes call wget.
RUN apt-get update \
    && apt-get install --no-install-recommends -y g++=4:13.* git=1:2.43.* python3.12-dev=3.12.* python3.12-venv=3.12.* wget=1.21.* \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /sppo-ray
COPY . .
RUN python3.12 -m venv .venv \
    && .venv/bin/pip install --no-cache-dir --requirement requirements/gpu.txt \
    && .venv/bin/pip install --no-cache-dir --no-deps .

ENV PATH="/sppo-ray/.venv/bin:$PATH"
ENTRYPOINT ["sppo-ray"]
CMD ["--help"]
