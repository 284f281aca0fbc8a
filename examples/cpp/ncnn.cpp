// Run an exported ncnn model: ncnn_example best.ncnn.param best.ncnn.bin names.txt 640 in.jpg out.jpg
//
// ncnn files hold no metadata: names.txt has one class name per line, and the size is that of the export. Append `nms_free`
// for heads that need no non-maximum suppression.
#include <net.h>
#include <opencv2/imgcodecs.hpp>

#include "detection.hpp"

int main(int argc, char** argv) try {
    if (argc < 6) throw std::runtime_error("usage: ncnn_example MODEL.param MODEL.bin NAMES.txt SIZE IMAGE [OUTPUT] [nms_free]");
    std::vector<std::string> names;
    std::ifstream lines(argv[3]);
    for (std::string line; std::getline(lines, line);) names.push_back(line);
    if (names.empty()) throw std::runtime_error(std::string(argv[3]) + ": has no names");
    const int size = std::stoi(argv[4]);
    cv::Mat image = cv::imread(argv[5]);
    if (image.empty()) throw std::runtime_error(std::string(argv[5]) + ": no such file, or not an image");

    ncnn::Net network;
    if (network.load_param(argv[1]) || network.load_model(argv[2])) throw std::runtime_error("cannot load the model");
    const Letterbox input = letterbox(image, {size, size});
    ncnn::Mat pixels = ncnn::Mat::from_pixels(input.image.data, ncnn::Mat::PIXEL_BGR2RGB, size, size);
    const float scales[] = {1 / 255.f, 1 / 255.f, 1 / 255.f};
    pixels.substract_mean_normalize(nullptr, scales);
    ncnn::Extractor extractor = network.create_extractor();
    extractor.input("in0", pixels);
    ncnn::Mat output;  // h rows of w = 5 + classes numbers
    if (extractor.extract("out0", output)) throw std::runtime_error("the model has no output out0");

    const int classes = int(names.size());
    if (output.w != 5 + classes) throw std::runtime_error("the model has another number of classes than the names");
    const bool needs_nms = std::string(argv[argc - 1]) != "nms_free";
    report(image, select_detections(output, output.h, classes, input, needs_nms), names);
    if (argc > 6 && std::string(argv[6]) != "nms_free") cv::imwrite(argv[6], image);
} catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
}
