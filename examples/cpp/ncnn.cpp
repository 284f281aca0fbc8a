// Run an exported ncnn model: ncnn_example best_ncnn_model in.jpg out.jpg
#include <net.h>
#include <opencv2/imgcodecs.hpp>

#include "detection.hpp"

// The value of a key in metadata.json, an escaped text.
std::string value_of(const std::string& json, const std::string& key) {
    const std::size_t start = json.find("\"" + key + "\": \"");
    if (start == std::string::npos) throw std::runtime_error("metadata.json has no " + key);
    std::string value;
    for (std::size_t i = start + key.size() + 5; i < json.size() && json[i] != '"'; ++i) {
        if (json[i] == '\\' && i + 1 < json.size()) ++i;
        value += json[i];
    }
    return value;
}

int main(int argc, char** argv) try {
    if (argc < 3) throw std::runtime_error("usage: ncnn_example FOLDER IMAGE [OUTPUT]");
    const std::string folder = argv[1];
    std::ifstream file(folder + "/metadata.json");
    const std::string json((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
    if (value_of(json, "output") != "decoded") throw std::runtime_error("export the model without --output");
    const std::vector<std::string> names = quoted(value_of(json, "names"));
    const std::vector<int> size = integers(value_of(json, "size"));  // height, width
    const bool needs_nms = value_of(json, "needs_nms") == "true";
    cv::Mat image = cv::imread(argv[2]);
    if (image.empty()) throw std::runtime_error(std::string(argv[2]) + ": no such file, or not an image");

    ncnn::Net network;
    network.opt.use_fp16_packed = network.opt.use_fp16_storage = network.opt.use_fp16_arithmetic = false;
    if (network.load_param((folder + "/model.ncnn.param").c_str()) || network.load_model((folder + "/model.ncnn.bin").c_str()))
        throw std::runtime_error("cannot load the model");
    const Letterbox input = letterbox(image, {size.at(1), size.at(0)});
    ncnn::Mat pixels = ncnn::Mat::from_pixels(input.image.data, ncnn::Mat::PIXEL_BGR2RGB, size[1], size[0]);
    const float scales[] = {1 / 255.f, 1 / 255.f, 1 / 255.f};
    pixels.substract_mean_normalize(nullptr, scales);
    ncnn::Extractor extractor = network.create_extractor();
    extractor.input("in0", pixels);
    ncnn::Mat output;  // h rows of w = 5 + classes numbers
    if (extractor.extract("out0", output)) throw std::runtime_error("the model has no output out0");

    const int classes = int(names.size());
    if (output.w != 5 + classes) throw std::runtime_error("the model has another number of classes than the names");
    report(image, select_detections(output, output.h, classes, input, needs_nms), names);
    if (argc > 3) cv::imwrite(argv[3], image);
} catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
}
