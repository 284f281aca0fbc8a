// Run an ONNX file exported for one size with OpenCV alone: opencv_example best.onnx in.jpg out.jpg
#include <opencv2/dnn.hpp>
#include <opencv2/imgcodecs.hpp>

#include "detection.hpp"

static std::size_t integer(const std::string& data, std::size_t& position) {
    std::size_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
        const auto byte = static_cast<unsigned char>(data.at(position++));
        value |= std::size_t(byte & 127) << shift;
        if (byte < 128) break;
    }
    return value;
}

// Number and content of each field of a protocol buffer that consists of integers and bytes.
static std::vector<std::pair<std::size_t, std::string>> fields(const std::string& data) {
    std::vector<std::pair<std::size_t, std::string>> found;
    for (std::size_t position = 0; position < data.size();) {
        const std::size_t tag = integer(data, position), value = integer(data, position);
        if ((tag & 7) != 2) continue;
        found.emplace_back(tag >> 3, data.substr(position, value));
        position += value;
    }
    return found;
}

// The metadata of an ONNX file, field 14 of its protocol buffer, which OpenCV does not return.
static std::map<std::string, std::string> read_metadata(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    const std::string data{std::istreambuf_iterator<char>(file), {}};
    std::map<std::string, std::string> metadata;
    for (const auto& [number, entry] : fields(data)) {
        if (number != 14) continue;
        std::string key, value;
        for (const auto& [part, text] : fields(entry)) (part == 1 ? key : value) = text;
        metadata[key] = value;
    }
    return metadata;
}

int main(int argc, char** argv) try {
    if (argc < 3) throw std::runtime_error("usage: opencv_example MODEL.onnx IMAGE [OUTPUT]");
    auto metadata = read_metadata(argv[1]);
    const auto names = quoted(metadata["names"]);
    const auto size = integers(metadata["size"]);  // height, width
    if (names.empty() || size.size() != 2) throw std::runtime_error(std::string(argv[1]) + ": lacks names or size");
    if (metadata["dynamic"] == "true") throw std::runtime_error(std::string(argv[1]) + ": export it without --dynamic");
    if (metadata.count("output") && metadata["output"] != "decoded")
        throw std::runtime_error(std::string(argv[1]) + ": has another output; export it without --output");
    cv::Mat image = cv::imread(argv[2]);
    if (image.empty()) throw std::runtime_error(std::string(argv[2]) + ": no such file, or not an image");

    cv::dnn::Net network = cv::dnn::readNetFromONNX(argv[1]);
    const Letterbox input = letterbox(image, {size[1], size[0]});
    network.setInput(cv::dnn::blobFromImage(input.image, 1 / 255.0, {}, {}, true));
    const cv::Mat output = network.forward();  // (1, N, 5 + classes)
    const int classes = int(names.size()), count = int(output.total()) / (5 + classes);
    const auto detections = select_detections(output.ptr<float>(), count, classes, input, metadata["needs_nms"] != "false");
    report(image, detections, names);
    if (argc > 3) cv::imwrite(argv[3], image);
} catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
}
