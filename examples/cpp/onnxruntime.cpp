// Run an exported ONNX file with onnxruntime: onnxruntime_example best.onnx in.jpg out.jpg
#include <array>

#include <onnxruntime_cxx_api.h>
#include <opencv2/dnn.hpp>
#include <opencv2/imgcodecs.hpp>

#include "detection.hpp"

int main(int argc, char** argv) try {
    if (argc < 3) throw std::runtime_error("usage: onnxruntime_example MODEL.onnx IMAGE [OUTPUT]");
    cv::Mat image = cv::imread(argv[2]);
    if (image.empty()) throw std::runtime_error(std::string(argv[2]) + ": no such file, or not an image");

    Ort::Env environment(ORT_LOGGING_LEVEL_ERROR, "graftdet");
    const std::string path = argv[1];
    Ort::Session session(environment, std::basic_string<ORTCHAR_T>(path.begin(), path.end()).c_str(), Ort::SessionOptions());
    Ort::AllocatorWithDefaultOptions allocator;
    const Ort::ModelMetadata metadata = session.GetModelMetadata();
    auto look_up = [&](const char* key) {
        auto value = metadata.LookupCustomMetadataMapAllocated(key, allocator);
        return value ? std::string(value.get()) : std::string();
    };
    const auto names = quoted(look_up("names"));
    const auto size = integers(look_up("size"));  // height, width; also a valid size of dynamic files
    if (names.empty() || size.size() != 2) throw std::runtime_error(path + ": lacks names or size");
    const std::string end = look_up("output");
    if (!end.empty() && end != "decoded") throw std::runtime_error(path + ": has another output; export it without --output");

    const Letterbox input = letterbox(image, {size[1], size[0]});
    cv::Mat blob = cv::dnn::blobFromImage(input.image, 1 / 255.0, {}, {}, true);  // (1, 3, H, W) RGB 0..1
    const std::array<std::int64_t, 4> shape{1, 3, size[0], size[1]};
    const auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
    Ort::Value tensor = Ort::Value::CreateTensor<float>(memory, blob.ptr<float>(), blob.total(), shape.data(), shape.size());
    const char* inputs[] = {"images"};
    const char* outputs[] = {"output0"};
    const auto results = session.Run(Ort::RunOptions{nullptr}, inputs, &tensor, 1, outputs, 1);

    const int classes = int(names.size());
    const int count = int(results[0].GetTensorTypeAndShapeInfo().GetElementCount()) / (5 + classes);
    const auto detections = select_detections(results[0].GetTensorData<float>(), count, classes, input,
                                              look_up("needs_nms") != "false");
    report(image, detections, names);
    if (argc > 3) cv::imwrite(argv[3], image);
} catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
}
