// Shapes: classes with virtual functions, several bases, and run-time type information.
#pragma once

#include "containers.h"

struct Named {
    virtual ~Named() {}
    virtual const char *name() const = 0;
};

struct Shape {
    virtual ~Shape();
    virtual uint32 area() const = 0;
    virtual uint32 edges() const { return 0; }
    uint32 tag = 1;
};

// Something whose state moves on with every step.
struct Moving {
    virtual ~Moving() {}
    virtual void advance(uint32 step) = 0;
};

class Square : public Shape, public Named {
  public:
    explicit Square(uint32 side) : side_(side) {}
    uint32 area() const override { return side_ * side_; }
    uint32 edges() const override { return 4; }
    const char *name() const override;

  protected:
    uint32 side_;
};

// Three bases: calls through the second and third go through adjusting thunks.
class Growing final : public Square, public Moving {
  public:
    explicit Growing(uint32 side) : Square(side) {}
    void advance(uint32 step) override;
    const char *name() const override { return "growing"; }
    uint32 edges() const override { return Square::edges() + 1; }
};

class Circle : public Shape {
  public:
    explicit Circle(uint32 radius) : radius_(radius) {}
    uint32 area() const override { return radius_ * radius_ * 355 / 113; }

  private:
    uint32 radius_;
};

// A virtual base.
struct Left : virtual Named {
    uint32 left = 3;
};
struct Right : virtual Named {
    uint32 right = 5;
};
struct Both : Left, Right {
    const char *name() const override { return left < right ? "both" : "neither"; }
};

using Shapes = Vector<Owned<Shape>>;

// One of each kind of shape.
void make_shapes(Shapes &shapes);
// Moves what can move, and gives a checksum over all shapes.
uint32 step_shapes(Shapes &shapes, uint32 step);
