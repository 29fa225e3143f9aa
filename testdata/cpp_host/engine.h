// The engine: a small interpreter with commands in tables, lambdas, and errors that are exceptions.
#pragma once

#include "containers.h"

// The base of all errors.
class Error {
  public:
    explicit Error(uint32 code) : code_(code) {}
    virtual ~Error() {}
    virtual uint32 code() const { return code_; }

  protected:
    uint32 code_;
};

// Carries a part that must be destroyed.
class Overflow : public Error {
  public:
    Overflow(uint32 code, uint32 depth) : Error(code) { trail_.push(depth); }
    Overflow(const Overflow &other) : Error(other) { trail_.push(other.depth()); }
    uint32 code() const override { return code_ * 100 + depth(); }
    uint32 depth() const { return const_cast<Overflow *>(this)->trail_.at(0); }

  private:
    Vector<uint32> trail_;
};

class Engine {
  public:
    // Runs one step and gives its checksum.
    uint32 step(uint32 number);
    // How many exceptions were caught so far, and guards destroyed.
    uint32 caught() const { return caught_; }
    uint32 unwound() const { return unwound_; }

  private:
    uint32 execute(uint32 command, uint32 operand);
    uint32 guarded(uint32 command, uint32 operand);
    uint32 descend(uint32 depth);

    Counter<uint32, 8> seen_;
    Counter<uint8, 4> small_;
    uint32 sum_ = 1, caught_ = 0, unwound_ = 0;

    friend class Guard;
};
