#include "api/output_thread.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <future>

namespace sluice {
namespace {

using ::testing::ElementsAre;

CoreEvent Token(int32_t id) {
  CoreEvent event;
  event.token = id;
  return event;
}

CoreEvent Last(int32_t id) {
  CoreEvent event = Token(id);
  event.finish = CoreFinish{.type = CoreFinish::Type::kLength};
  return event;
}

class OutputThreadTest : public testing::Test {
 protected:
  void Push(CoreEvent event) {
    std::vector<CoreEvent> events;
    events.push_back(std::move(event));
    thread_->Push(events);
    EXPECT_TRUE(events.empty());
  }

  std::vector<int32_t> heard_;
  std::promise<void> ended_;
  std::unique_ptr<OutputThread> thread_ = std::make_unique<OutputThread>([this](CoreEvent&& event) {
    heard_.push_back(event.token);
    if (event.finish) ended_.set_value();
  });
};

TEST_F(OutputThreadTest, HandsEventsOverInOrder) {
  for (int32_t i = 0; i < 1000; ++i) Push(Token(i));
  Push(Last(1000));
  ended_.get_future().wait();
  ASSERT_EQ(heard_.size(), 1001u);
  for (int32_t i = 0; i <= 1000; ++i) EXPECT_EQ(heard_[i], i);
}

TEST_F(OutputThreadTest, AnEventAfterAPauseIsHandledWithoutAnother) {
  Push(Token(1));
  std::this_thread::sleep_for(20 * OutputThread::kPace);  // idle again
  Push(Last(2));
  ended_.get_future().wait();
  EXPECT_THAT(heard_, ElementsAre(1, 2));
}

TEST_F(OutputThreadTest, TokensThatEndNothingAreHandledToo) {
  std::promise<void> third;
  thread_ = std::make_unique<OutputThread>([&](CoreEvent&& event) {
    if (event.token == 3) third.set_value();
  });
  for (const int32_t id : {1, 2, 3}) Push(Token(id));  // the later ones within the pace
  third.get_future().wait();
}

TEST_F(OutputThreadTest, HandsOverEverythingBeforeItEnds) {
  for (int32_t i = 0; i < 100; ++i) Push(Token(i));
  thread_.reset();
  EXPECT_EQ(heard_.size(), 100u);
}

}  // namespace
}  // namespace sluice
