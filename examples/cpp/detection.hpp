// Letterbox, non-maximum suppression and drawing that the programs in this folder share; see docs/exported-files.md.
#pragma once

#include <algorithm>
#include <cctype>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <map>
#include <numeric>
#include <stdexcept>
#include <string>
#include <vector>

#include <opencv2/imgproc.hpp>

struct Detection {
    int label;
    float score;
    cv::Rect2f box;  // in pixels of the image
};

struct Letterbox {
    cv::Mat image;      // (height, width, 3) BGR, padded with 114
    int left, top;      // padding in pixels
    cv::Size scaled;    // size of the image inside the padding
    cv::Size original;  // size of the image as read
};

inline Letterbox letterbox(const cv::Mat& image, cv::Size frame) {
    const double gain = std::min(double(frame.width) / image.cols, double(frame.height) / image.rows);
    auto side = [gain](int length) { return std::max(int(std::nearbyint(length * gain)), 1); };
    Letterbox result;
    result.original = image.size();
    result.scaled = {side(image.cols), side(image.rows)};
    result.left = (frame.width - result.scaled.width) / 2;
    result.top = (frame.height - result.scaled.height) / 2;
    cv::Mat resized;
    cv::resize(image, resized, result.scaled, 0, 0, gain < 0.5 ? cv::INTER_AREA : cv::INTER_LINEAR);
    cv::copyMakeBorder(resized, result.image, result.top, frame.height - result.scaled.height - result.top, result.left,
                       frame.width - result.scaled.width - result.left, cv::BORDER_CONSTANT, cv::Scalar::all(114));
    return result;
}

inline float iou(const cv::Rect2f& a, const cv::Rect2f& b) {
    const float common = (a & b).area();
    return common > 0 ? common / (a.area() + b.area() - common) : 0;
}

// Rows of 5 + classes numbers: cx, cy, w, h in pixels of the input, objectness, class probabilities.
inline std::vector<Detection> select_detections(const float* rows, int count, int classes, const Letterbox& input,
                                                bool needs_nms, float conf = 0.25f, float max_iou = 0.45f) {
    std::vector<Detection> candidates;
    for (int i = 0; i < count; ++i) {
        const float* row = rows + std::size_t(i) * (5 + classes);
        const int label = int(std::max_element(row + 5, row + 5 + classes) - row - 5);
        const float score = row[4] * row[5 + label];
        const float x = row[0] - row[2] / 2 - input.left, y = row[1] - row[3] / 2 - input.top;
        const bool visible = x + row[2] > 0 && y + row[3] > 0 && x < input.scaled.width && y < input.scaled.height;
        if (score > conf && visible) candidates.push_back({label, score, {x, y, row[2], row[3]}});
    }
    std::stable_sort(candidates.begin(), candidates.end(),
                     [](const Detection& a, const Detection& b) { return a.score > b.score; });
    std::vector<Detection> selected;
    for (const Detection& one : candidates) {
        const bool suppressed = needs_nms && std::any_of(selected.begin(), selected.end(), [&](const Detection& better) {
            return better.label == one.label && iou(better.box, one.box) > max_iou;
        });
        if (!suppressed && selected.size() < 300) selected.push_back(one);
    }
    const float gain_x = float(input.scaled.width) / input.original.width;
    const float gain_y = float(input.scaled.height) / input.original.height;
    const cv::Rect2f whole(0, 0, float(input.original.width), float(input.original.height));
    for (Detection& one : selected)
        one.box = cv::Rect2f(one.box.x / gain_x, one.box.y / gain_y, one.box.width / gain_x, one.box.height / gain_y) & whole;
    return selected;
}

inline void report(cv::Mat& image, const std::vector<Detection>& detections, const std::vector<std::string>& names) {
    for (const Detection& one : detections) {
        const std::string& name = names.at(std::size_t(one.label));
        std::printf("%s %.3f [%.1f, %.1f, %.1f, %.1f]\n", name.c_str(), one.score, one.box.x, one.box.y,
                    one.box.x + one.box.width, one.box.y + one.box.height);
        char text[64];
        std::snprintf(text, sizeof text, "%.50s %.2f", name.c_str(), one.score);
        cv::rectangle(image, one.box, cv::Scalar(64, 64, 255), 2);
        cv::putText(image, text, cv::Point(int(one.box.x), std::max(int(one.box.y) - 4, 12)), cv::FONT_HERSHEY_SIMPLEX, 0.5,
                    cv::Scalar(64, 64, 255), 1, cv::LINE_AA);
    }
}

// Parts of a text between quotes, such as the names in {0: 'person', 1: "driver's seat"}.
inline std::vector<std::string> quoted(const std::string& text) {
    std::vector<std::string> parts;
    for (std::size_t i = 0; i < text.size(); ++i) {
        if (text[i] != '\'' && text[i] != '"') continue;
        const char quote = text[i];
        std::string part;
        for (++i; i < text.size() && text[i] != quote; ++i) {
            if (text[i] == '\\' && i + 1 < text.size()) ++i;
            part += text[i];
        }
        parts.push_back(part);
    }
    return parts;
}

// Numbers of a text such as [640, 480].
inline std::vector<int> integers(const std::string& text) {
    std::vector<int> numbers;
    for (std::size_t i = 0; i < text.size();) {
        std::size_t end = i;
        while (end < text.size() && std::isdigit(static_cast<unsigned char>(text[end]))) ++end;
        if (end > i) numbers.push_back(std::stoi(text.substr(i, end - i)));
        i = std::max(end, i + 1);
    }
    return numbers;
}
