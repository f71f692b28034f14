# An exported graph as a program: paths of images in, scores out, without ffdi, torch or a network.
#   docker build --build-arg EXPORT=exports/quickstart -t faces .
#   docker run --rm --network none -v "$PWD/images:/images:ro" faces /images
# The last word of `docker build` is the folder with exports/, such as $FFDI_ROOT (then with -f Dockerfile).
FROM python:3.12-slim
ARG PIP_INDEX_URL
RUN pip install --no-cache-dir "numpy>=2.0,<3" "opencv-python-headless>=4.11.0.86,<6" "onnxruntime>=1.21,<2"
ARG EXPORT=exports/quickstart
COPY ${EXPORT}/model.onnx ${EXPORT}/predict.py /faces/
ENV ORT_DISABLE_TELEMETRY=1
USER nobody
ENTRYPOINT ["python", "/faces/predict.py"]
