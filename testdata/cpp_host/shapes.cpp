// The shapes' own functions, and the functions that tell them apart.
#include "shapes.h"

namespace {

// engine.cpp has functions and variables of these names too, which do something else.
uint32 calls = 0;

NOINLINE uint32 scale(uint32 value) {
    calls++;
    return value * 3 + calls % 2;
}

struct Limit {
    uint32 value;
    ~Limit() { calls += value & 1; }
    bool exceeded(uint32 by) const { return by > value; }
};

template <typename T> T *as(Shape *shape) { return dynamic_cast<T *>(shape); }

} // namespace

Shape::~Shape() { tag = 0; }

const char *Square::name() const {
    static const char *const names[] = {"square", "small square", "large square"};
    return names[side_ > 50 ? 2 : side_ < 10 ? 1 : 0];
}

void Growing::advance(uint32 step) {
    const Limit limit{200};
    side_ = limit.exceeded(side_ + step % 7) ? 1 : side_ + step % 7;
}

void make_shapes(Shapes &shapes) {
    shapes.push(Owned<Shape>(new Square(7)));
    shapes.push(Owned<Shape>(new Circle(11)));
    shapes.push(Owned<Shape>(new Growing(2)));
    shapes.push(Owned<Shape>(new Square(60)));
}

// The same body as `shape_area_again`: the linker may fold them into one.
NOINLINE static uint32 shape_area(const Shape &shape) { return scale(shape.area()) + shape.edges(); }
NOINLINE static uint32 shape_area_again(const Shape &shape) { return scale(shape.area()) + shape.edges(); }

uint32 step_shapes(Shapes &shapes, uint32 step) {
    uint32 sum = step;
    for (Owned<Shape> &shape : shapes) {
        if (Moving *moving = as<Growing>(shape.get())) {
            moving->advance(step);
        }
        if (Named *named = dynamic_cast<Named *>(shape.get())) {
            sum = mix_text(sum, named->name());
        }
        sum = mix(sum, step % 2 ? shape_area(*shape.get()) : shape_area_again(*shape.get()));
    }
    Both both;
    const Left &left = both;
    return mix_text(sum, left.name());
}
